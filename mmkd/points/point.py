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
    """Values of a network at a point."""
    levels: List[Tensor]
    """(N, C, *positions), one per level."""
    queries: List[Queries] = []
    """For a set of queries: classes and places, by which queries are paired. For a map that is
    computed from queries: these."""

    def tensors(self) -> List[Tensor]:
        """All tensors of the answer."""
        return [*self.levels, *(one for queries in self.queries
                                for one in (queries.logits, queries.where))]


@dataclass(frozen=True)
class Point:
    """A place in a model that can be compared with a place in another model.

    Attributes:
        name (str): Name in the config: 'cls', or a dotted module path.
        paths (tuple[str]): Dotted paths of the modules to record.
        read (Callable): Converts the calls of each of these modules in one step to a list of
            tensors (N, C, *positions), one per level.
        use_sigmoid (bool, optional): Activation of the logits: sigmoid or softmax; None if the
            point has no logits.
        num_classes (int, optional): Number of columns per prediction, including that of the
            background if the head has one. The number of channels is a multiple of it if the head
            has anchors. None if the point has no logits.
        num_named (int): Number of these columns, the first ones, for classes of the data set.
            Defaults to 0, as for objectness.
        is_map (bool): Whether the levels are maps that may be interpolated to another size.
        align_corners (bool): Setting of this interpolation, that of the head itself.
        asked_at (tuple[str]): For a head that predicts at given places: per level, path of the
            module with the places, such as RoIs (R, 5), as second argument. The other side is then
            run for the same places. Defaults to (), the head predicts on a grid.
        stages (tuple[Point]): The points of the stages, for a head with several stages.
        queries (Callable, optional): For an unordered set of predictions: reads, like ``read``, the
            :class:`mmkd.points.queries.Queries` by which both sides are paired.
        masks (Callable, optional): For a map that is computed from queries with masks: reads them,
            like ``queries``, so that :func:`mmkd.points.queries.class_map` can compute it in
            another size.
        query_dim (int): Dimension of the queries in the levels. Defaults to -1.
        criteria (tuple[str]): Paths of the loss modules that train the logits on labels, in the
            order of the levels, or one for all. Defaults to (), not known.
        has_several_labels (bool): Whether a prediction may have several labels at once, so that
            there is no class of its label. Defaults to False.
        is_on_scores (bool): Whether these modules are given scores in place of labels, so that the
            labels of positions are not known. Defaults to False.
        coding (str): Coding of the boxes, for a point of boxes: only points of equal coding can be
            compared. Defaults to '', no boxes.
        box_columns (int): Number of columns per box, for a point of boxes of a dense head. The
            number of channels is a multiple of it if the head has anchors. Defaults to 0.
        centred_by (tuple[str]): Paths of the loss modules that train the centerness of positive
            positions. Defaults to (), there is none.
        choices (tuple[Point]): For several heads of one kind, of which one is compared: the point
            of each. The first one with the stride of the other side is used. Their columns and
            activations are equal. Defaults to (), a single head.
        layout (Layout): Order of the axes in the result of ``read``. Defaults to
            (N, C, *positions).
        image (str): Path of the module that resizes the image to the input of the network, if
            ``layout`` needs both sizes. Defaults to '', not needed.

    Example:
        >>> Point('neck', ('neck',), read=lambda calls: list(calls['neck'][0].output)).use_sigmoid
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
    masks: Optional[Callable[..., List[Queries]]] = field(default=None, compare=False)
    query_dim: int = -1
    coding: str = ''
    box_columns: int = 0
    centred_by: Tuple[str, ...] = ()
    criteria: Tuple[str, ...] = ()
    has_several_labels: bool = False
    choices: Tuple['Point', ...] = ()
    is_on_scores: bool = False
    layout: Layout = MAPS
    image: str = ''

    @property
    def watched(self) -> Tuple[str, ...]:
        """Dotted paths of all modules that :meth:`levels` needs records of."""
        return (*self.paths, self.image) if self.image else self.paths

    @property
    def is_prediction(self) -> bool:
        """Whether it is a prediction (class logits, masks or boxes), which gets no connector, or
        features."""
        return self.num_classes is not None or bool(self.coding)

    @property
    def columns(self) -> int:
        """Columns per prediction, of classes or of a box; 0 if it is not known."""
        return self.num_classes or self.box_columns

    def levels(self, records: Records) -> List[Tensor]:
        """The levels at this point, from the records of its modules."""
        levels = self.read(*(records[path] for path in self.paths))
        if not self.image or not levels:
            return levels
        return self.layout.maps(levels, records[self.image][-1], self.name)

    def answer(self, records: Records) -> Answer:
        """The levels and the queries at this point, from the records of its modules."""
        levels = self.levels(records)
        queries = self.queries or self.masks
        if queries is None or not levels:
            return Answer(levels)
        return Answer(levels, queries(*(records[path] for path in self.paths)))

    def places(self, records: Records) -> Dict[str, Tensor]:
        """Places that the head predicted for, by path of the module in ``asked_at``.

        Of several calls of this module, the one before the last call of the point is used: earlier
        ones may be for candidates (OHEM), later ones for masks. A stage that did not run is left
        out.
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
            ValueError: If the stage does not exist.
        """
        if stage == 'mean' and self.stages:
            if len({one.coding for one in self.stages}) > 1:
                raise ValueError(
                    f"`stage='mean'`, but the stages of `{self.name}` predict boxes in different "
                    'codings, which cannot be averaged; write one of the stages')
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
"""Answers at several points."""


def is_asked(paths: Iterable[str], part: str) -> bool:
    """Whether one of the paths is ``part`` or inside of it."""
    return any(f'{path}.'.startswith(f'{part}.') for path in paths)


def tensors_of(calls: List[Call]) -> List[Tensor]:
    """All tensors that a module returned, call by call, one per level.

    For a dict, such as the levels of torchvision's FPN by name, these are the values, in order.

    Raises:
        TypeError: If the module returned something other than tensors, or a sequence or a dict of
            tensors.

    Example:
        >>> from mmkd.points.recorder import Call
        >>> len(tensors_of([Call((), dict(p3=torch.zeros(1), p4=torch.zeros(2)))]))
        2
    """
    tensors: List[Tensor] = []
    for call in calls:
        output = list(call.output.values()) if isinstance(call.output, dict) else call.output
        outputs = output if isinstance(output, (list, tuple)) else [output]
        if not all(isinstance(one, Tensor) for one in outputs):
            raise TypeError(
                'a point must return a tensor or a sequence of tensors, but got '
                f'{[type(one).__name__ for one in outputs]}; choose a module inside of it')
        tensors.extend(outputs)
    return tensors
