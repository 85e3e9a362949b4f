"""Which points does a model have? By a family's name for them, or by a dotted module path."""
from abc import ABCMeta, abstractmethod
from difflib import get_close_matches
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

from torch import Tensor, nn

from ..registry import FAMILIES
from .point import Point, tensors_of


class ModelFamily(metaclass=ABCMeta):
    """What is known of one family of models.

    Attributes:
        family (str): What an mmdet or mmseg user calls these models.
        kind (str): A word for it, by which a :class:`mmkd.losses.Method` chooses its entries.
        truth (tuple[str]): Which ground truth its data has: names that a loss may ask for.

    A subclass registers with ``@mmkd.FAMILIES.register_module()``; the first one that fits a model,
    the latest registered first, speaks for it.
    """

    family: str
    kind: str = ''
    truth: Tuple[str, ...] = ('boxes', 'box_labels', 'ignored_boxes', 'instance_masks')

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
    def ignored_label(model: nn.Module) -> int:
        """The number in a label map that the loss ignores."""
        return 255

    @staticmethod
    def priors(model: nn.Module, sizes: Sequence[Tuple[int, int]], like: Tensor) -> List[Tensor]:
        """The priors of every level, where the family has any.

        Args:
            model (nn.Module): The student.
            sizes (Sequence[tuple[int, int]]): Height and width of every level.
            like (Tensor): Tells the device.

        Returns:
            list[Tensor]: (H·W·anchors, 4) boxes or (H·W, 2) points, in pixels of the input.
            Defaults to [], there are none.
        """
        return []

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


def family_of(model: nn.Module, side: str = 'model') -> ModelFamily:
    """The family of a model.

    Args:
        model (nn.Module): Student or teacher.
        side (str): Which of them, for the message. Defaults to 'model'.

    Raises:
        ValueError: If no family fits.
    """
    for family in reversed(list(FAMILIES.module_dict.values())):
        if family.fits(model):
            missing = sorted(getattr(family, '__abstractmethods__', ()))
            if missing:
                raise ValueError(f'{family.__name__} fits the {side}, but does not define '
                                 f'{", ".join(f"`{name}`" for name in missing)}; write it, see '
                                 'docs/your_own.md')
            return family()
    raise ValueError(
        f'the {side} is a {type(model).__name__}, whose points mmkd does not know; it knows '
        f'{", ".join(family.family for family in FAMILIES.module_dict.values())}; register a '
        'family of your own with `@mmkd.FAMILIES.register_module()`, see docs/your_own.md')


def points_of(model: nn.Module, side: str = 'model') -> Dict[str, Point]:
    """Every named point of a model: those of its head, and the feature maps before it."""
    points = family_of(model, side).points(model)
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
    modules = family_of(model, side).modules(model)
    if name in modules:
        about = dict(read=tensors_of, is_map=True)
        about.update(family_of(model, side).about(model, modules[name]))
        return Point(name, (modules[name], ), **about)  # type: ignore[arg-type]
    missing = family_of(model, side).missing(model, name)
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
