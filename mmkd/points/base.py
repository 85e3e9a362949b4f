"""Points and how they are found: by a family's name for them or by a dotted module path."""
from abc import ABCMeta, abstractmethod
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import partial
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

from ..registry import HEADS
from .layout import MAPS, Layout
from .queries import Queries
from .recorder import Call, Records


class Answer(NamedTuple):
    """What a network says at a point."""
    levels: List[Tensor]
    """(N, C, *positions), one per level."""
    queries: List[Queries] = []
    """What tells predictions without an order apart."""

    def tensors(self) -> List[Tensor]:
        """All that is said."""
        return [*self.levels, *(one for queries in self.queries
                                for one in (queries.logits, queries.where))]


@dataclass(frozen=True)
class Point:
    """A place in one model where it can be compared with another.

    Attributes:
        name (str): As the config writes it: 'cls', or a dotted module path.
        paths (tuple[str]): Dotted paths of the modules whose calls are looked at.
        read (Callable): Turns the calls of each of these modules in one step into a list of
            tensors (N, C, *positions), one per level.
        use_sigmoid (bool, optional): What activates the logits, None where the point has none.
        num_classes (int, optional): Columns of one prediction, background included where the head
            has a column for it; channels are a multiple of it if the head has anchors. None where
            the point has no logits.
        num_named (int): How many of these columns, the first ones, stand for the data set's
            classes. Defaults to 0, as for objectness.
        is_map (bool): Whether the levels are maps that may be interpolated to another size.
        align_corners (bool): How such a map is interpolated, as the head does it itself.
        asked_at (tuple[str]): Where the head predicts at places that it is given: for each level
            the module whose second argument are these places, such as RoIs (R, 5). The other side
            is then asked at the same places. Defaults to (), a grid of the head's own.
        stages (tuple[Point]): Where the head predicts in several stages: each of them.
        queries (Callable, optional): Where predictions are a set without an order: reads, as
            ``read`` does, the :class:`mmkd.points.queries.Queries` by which those of both sides
            are paired.
        query_dim (int): The dimension of the levels that counts the queries. Defaults to -1.
        criteria (tuple[str]): The loss modules that train these logits on labels, in the order of
            the levels, or one for all. Defaults to (), not known.
        coding (str): How boxes are written as numbers, where the point predicts boxes: only points
            of one coding can be compared. Defaults to '', no boxes.
        choices (tuple[Point]): Where several heads predict the same, and one of them is compared:
            each of them. The first one whose maps have the stride of the other side's is taken.
            Their columns and their activation are equal. Defaults to (), there is one.
        layout (Layout): In which order ``read`` gives the axes. Defaults to (N, C, *positions).
        image (str): Path of the module that is given the image and returns it as the network sees
            it, where ``layout`` needs the sizes of both. Defaults to '', it does not.
    """
    name: str
    paths: Tuple[str, ...]
    read: Callable[..., List[Tensor]] = field(compare=False)
    use_sigmoid: Optional[bool] = None
    num_classes: Optional[int] = None
    num_named: int = 0
    is_map: bool = False
    align_corners: bool = False
    asked_at: Tuple[str, ...] = ()
    stages: Tuple['Point', ...] = ()
    queries: Optional[Callable[..., List[Queries]]] = field(default=None, compare=False)
    query_dim: int = -1
    coding: str = ''
    criteria: Tuple[str, ...] = ()
    choices: Tuple['Point', ...] = ()
    layout: Layout = MAPS
    image: str = ''

    @property
    def watched(self) -> Tuple[str, ...]:
        """Dotted paths of all modules whose calls :meth:`levels` reads."""
        return (*self.paths, self.image) if self.image else self.paths

    @property
    def is_prediction(self) -> bool:
        """Whether it is compared as it is, class logits, masks or boxes; else it is features."""
        return self.num_classes is not None or bool(self.coding)

    def levels(self, records: Records) -> List[Tensor]:
        """What was recorded at this point."""
        levels = self.read(*(records[path] for path in self.paths))
        if not self.image or not levels:
            return levels
        return self.layout.maps(levels, records[self.image][-1], self.name)

    def answer(self, records: Records) -> Answer:
        """All that was recorded at this point."""
        levels = self.levels(records)
        if self.queries is None or not levels:
            return Answer(levels)
        return Answer(levels, self.queries(*(records[path] for path in self.paths)))

    def places(self, records: Records) -> Dict[str, Tensor]:
        """Where the head predicted, by the module of ``asked_at`` that was told.

        Of its calls the one that the point's own last call came from: candidates may have been
        tried before (OHEM), masks are predicted after it. A stage that was not reached is left out.
        """
        places = {}
        for at, path in zip(self.asked_at, self.paths):
            for last in records[path][-1:]:
                for call in records[at]:
                    if call.order <= last.order:
                        places[at] = call.args[1].detach()
        return places

    def at_stage(self, stage: Union[int, str]) -> 'Point':
        """One of the stages, or the mean of their logits.

        Args:
            stage (int | str): Number of the stage from 0, or 'mean'.

        Raises:
            ValueError: If the head has no such stage.
        """
        if stage == 'mean' and self.stages:
            if len({one.coding for one in self.stages}) > 1:
                raise ValueError(
                    f"`stage='mean'`, but the stages of `{self.name}` write boxes in different "
                    'codings, of which there is no mean; name one of the stages')
            return replace(self.stages[0], name=self.name, read=partial(_mean, self.stages),
                           paths=tuple(path for one in self.stages for path in one.paths))
        is_number = isinstance(stage, int) and not isinstance(stage, bool)
        if not is_number or stage not in range(len(self.stages)):
            raise ValueError(
                f'`stage={stage!r}`, but `{self.name}` has ' +
                (f"stages 0 to {len(self.stages) - 1}, and 'mean'; choose one of them"
                 if self.stages else 'no stages; leave `stage` out'))
        return self.stages[stage]  # type: ignore[index]


def _mean(stages: Sequence[Point], *calls: List[Call]) -> List[Tensor]:
    levels = [stage.read(one) for stage, one in zip(stages, calls)]
    return [torch.stack(same).mean(0) for same in zip(*levels)]


Answers = Dict[Point, Answer]
"""What was said at several points."""


class HeadAdapter(metaclass=ABCMeta):
    """What is known of one family of models.

    Attributes:
        family (str): What an mmdet or mmseg user calls these models.
        masks (tuple[str]): Names of masks that :meth:`weight` knows. Defaults to ().

    A subclass registers with ``@mmkd.HEADS.register_module()``; the first one that fits a model,
    the latest registered first, speaks for it.
    """

    family: str
    masks: Tuple[str, ...] = ()

    @staticmethod
    @abstractmethod
    def fits(model: nn.Module) -> bool:
        """Whether the model is of this family. Must not raise for models that are not."""

    @staticmethod
    @abstractmethod
    def points(model: nn.Module) -> Dict[str, Point]:
        """Every named point of the head, by name. 'backbone' and 'neck' are there anyway."""

    @staticmethod
    def modules(model: nn.Module) -> Dict[str, str]:
        """Paths that ``on`` may name, and the dotted path in the model of each."""
        return {path: path for path, _ in model.named_modules() if path}

    @staticmethod
    def about(model: nn.Module, path: str) -> Dict[str, Any]:
        """Fields of :class:`Point` that are known of any module of the model, by its path."""
        return {}

    @staticmethod
    def missing(model: nn.Module, name: str) -> str:
        """Why a model of this family lacks a point that others have, and what to compare instead;
        '' where the list of its points says enough."""
        return ''

    @staticmethod
    def extract(model: Any, inputs: Tensor) -> Any:
        """Run the model up to where its heads begin.

        Args:
            model (nn.Module): In eval mode.
            inputs (Tensor): Float (N, C, H, W), normalised.

        Returns:
            Any: The features, as the heads want them.
        """
        return model.extract_feat(inputs)

    @staticmethod
    @abstractmethod
    def predict(model: nn.Module, features: Any, paths: Iterable[str],
                at: Optional[Tensor] = None, data_samples: Optional[Sequence] = None) -> None:
        """Run what lies behind the features, as far as it is looked at: no losses, no NMS.

        Args:
            model (nn.Module): In eval mode.
            features (Any): From :meth:`extract`.
            paths (Iterable[str]): Modules that must run.
            at (Tensor, optional): Where to predict, for points with ``asked_at``.
            data_samples (Sequence, optional): The N samples; None for a blank image.
        """

    @staticmethod
    def made_up(inputs: Tensor) -> Optional[Tensor]:
        """Any places to predict at, where the family asks for them; to learn shapes from."""
        return None

    @staticmethod
    def weight(model: nn.Module, mask: str, level: Tensor,
               data_samples: Optional[Sequence]) -> Tensor:
        """Weight of each position that a mask asks for.

        Args:
            model (nn.Module): The student.
            mask (str): Name of the mask.
            level (Tensor): (N, C, *positions).
            data_samples (Sequence, optional): The N samples.

        Returns:
            Tensor: (N, *positions), 0 or more.
        """
        raise NotImplementedError

    @staticmethod
    def relabel(prediction: Any, columns: Optional[Sequence[int]]) -> Any:
        """Bring a prediction to another model's classes.

        Args:
            prediction (DetDataSample | SegDataSample): Changed in place.
            columns (Sequence[int], optional): For each of the other model's classes, this one's.
                None if they are the same.
        """
        if columns is not None and 'pred_instances' in prediction:
            instances = prediction.pred_instances
            of_column = {column: number for number, column in enumerate(columns)}
            labels = [of_column.get(label, -1) for label in instances.labels.tolist()]
            instances.labels = instances.labels.new_tensor(labels)
            prediction.pred_instances = instances[instances.labels >= 0]
        return prediction


def adapter_of(model: nn.Module, side: str = 'model') -> HeadAdapter:
    """The adapter of a model's family.

    Args:
        model (nn.Module): Student or teacher.
        side (str): Which of them, for the message. Defaults to 'model'.

    Raises:
        ValueError: If no adapter fits.
    """
    for adapter in reversed(list(HEADS.module_dict.values())):
        if adapter.fits(model):
            return adapter()
    raise ValueError(
        f'the {side} is a {type(model).__name__}, whose points mmkd does not know; it knows '
        f'{", ".join(adapter.family for adapter in HEADS.module_dict.values())}; register an '
        'adapter of your own with `@mmkd.HEADS.register_module()`, see docs/architecture.md')


def points_of(model: nn.Module, side: str = 'model') -> Dict[str, Point]:
    """Every named point of a model: those of its head, and the feature maps before it."""
    points = adapter_of(model, side).points(model)
    for part in ('neck', 'backbone'):
        if isinstance(getattr(model, part, None), nn.Module):
            points[part] = Point(part, (part, ), tensors_of, is_map=True)
    return points


def find_point(model: nn.Module, name: str, side: str = 'model') -> Point:
    """Find a point by its name in the family or by a dotted module path.

    Args:
        model (nn.Module): Student or teacher.
        name (str): For instance 'cls' or 'bbox_head.retina_cls'.
        side (str): 'student' or 'teacher', for the message. Defaults to 'model'.

    Returns:
        Point: The point.

    Raises:
        ValueError: If there is neither; the message names the nearest that exist.
    """
    points = points_of(model, side)
    if name in points:
        return points[name]
    modules = adapter_of(model, side).modules(model)
    if name in modules:
        about = dict(read=tensors_of, is_map=True)
        about.update(adapter_of(model, side).about(model, modules[name]))
        return Point(name, (modules[name], ), **about)  # type: ignore[arg-type]
    missing = adapter_of(model, side).missing(model, name)
    if missing:
        raise ValueError(f'no point `{name}` in the {side}: {missing}')
    known = dict.fromkeys([*points, *modules])  # a point may have the name of its module
    nearest = get_close_matches(name, known, n=3, cutoff=0.4)
    raise ValueError(
        f'no point `{name}` in the {side} ({type(model).__name__}); ' +
        (f'closest: {", ".join(f"`{near}`" for near in nearest)}; ' if nearest else '') +
        f'points of it are {", ".join(f"`{point}`" for point in points)}, and every dotted path '
        'of its `named_modules()`; write one of these')


def criteria_of(model: nn.Module, head: str, name: str = 'loss_cls') -> Tuple[str, ...]:
    """Paths of the modules by which a head's logits are trained on labels."""
    loss = getattr(model.get_submodule(head), name, None)
    if isinstance(loss, nn.ModuleList):
        return tuple(f'{head}.{name}.{i}' for i in range(len(loss)))
    return (f'{head}.{name}', ) if isinstance(loss, nn.Module) else ()


def is_asked(paths: Iterable[str], part: str) -> bool:
    """Whether one of the modules is ``part`` or inside of it."""
    return any(f'{path}.'.startswith(f'{part}.') for path in paths)


def tensors_of(calls: List[Call]) -> List[Tensor]:
    """Every tensor that a module returned, call by call: one level each.

    Of a dict, such as the levels of torchvision's FPN by name, these are the values, in order.

    Raises:
        TypeError: If the module returned something other than tensors, or a sequence or a dict of
            tensors.
    """
    tensors: List[Tensor] = []
    for call in calls:
        output = list(call.output.values()) if isinstance(call.output, dict) else call.output
        outputs = output if isinstance(output, (list, tuple)) else [output]
        if not all(isinstance(one, Tensor) for one in outputs):
            raise TypeError(
                'a point must return a tensor or a sequence of tensors, but got '
                f'{[type(one).__name__ for one in outputs]}; choose a module further inside')
        tensors.extend(outputs)
    return tensors
