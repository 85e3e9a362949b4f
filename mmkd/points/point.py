"""What is a point, and what does a network return there?"""
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor

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
