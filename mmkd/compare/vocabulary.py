"""Which values may losses, regions and connectors request by name, and how are they provided?"""
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Sequence, Set, Tuple

import torch
from torch import Tensor, nn

from ..core.asking import Asked
from ..core.errors import said_by
from ..losses.base import PER_LEVEL
from ..losses.trial import made_up
from ..points import Point
from ..points.labels import IGNORED, Labels, is_given_by_image, labels_of, limit_of
from ..points.recorder import Call, Records
from .replacement import constant


@dataclass
class Batch:
    """One batch, the input of the student."""
    inputs: Tensor
    """Float (N, C, H, W), normalised and padded."""
    data_samples: Optional[Sequence[Any]]
    """The N samples; None for a blank image."""
    iteration: int = 0
    """Number of the iteration of the run, from 0."""
    is_labelled: bool = True
    """Whether there are labels, of people or of a teacher."""


@dataclass
class Context:
    """Input of the providers: one term in one step.

    Example:
        >>> context = Context(None, None, None, {}, student=[], teacher=[], strides=[8, 16])
        >>> context.strides
        [8, 16]
    """
    batch: Batch
    model: Optional[nn.Module]
    """The student; None if only the levels are needed."""
    point: Point
    """The student's point."""
    records: Records
    """Records of the student in this step."""
    student: List[Tensor]
    """The compared levels of the student."""
    teacher: List[Tensor]
    """The compared levels of the teacher."""
    strides: Sequence[Any] = ()
    """Pixels of the input per position, one per level; () if levels are not maps of the image."""
    numbers: Sequence[int] = ()
    """Number of each level."""
    anchors: int = 1
    """Number of anchors that were split off: levels are (N·anchors, C, H, W)."""
    also: Tuple[List[List[Tensor]], List[List[Tensor]]] = field(default_factory=lambda: ([], []))
    """Levels of the further points of the entry: per level, the student's and the teacher's."""
    further: Sequence[Point] = ()
    """The further points of the entry, of the student."""
    kept: Optional[List[int]] = None
    """The student's classes that are compared, by number; None for all."""
    level: int = 0
    """Index of the current level in the lists."""
    shapes: Sequence[torch.Size] = ()
    """Shapes of all levels of the student's point, unpaired ones included, after the split of
    anchors."""
    chosen: Callable[[Sequence[Any]], List[Any]] = list
    """Selects the items of the compared levels from a list with one item per entry of
    ``shapes``."""
    _labels: Optional[List[Labels]] = None
    _of_every_level: List[Labels] = field(default_factory=list)
    _shared: Dict[str, Any] = field(default_factory=dict)

    def shared(self, name: str) -> Any:
        """A value that all levels share, found once: `num_positives` is exchanged between
        processes."""
        if name not in self._shared:
            self._shared[name] = PROVIDERS[name](self)
        return self._shared[name]

    @property
    def labels(self) -> Labels:
        """The labels of this level.

        Raises:
            Lacking: If the loss module that trains the point on labels is not known.
        """
        self.check_labelled('labels')
        if not self.labelled.criteria:
            raise Lacking(f'mmkd does not know which loss trains `{self.point.name}` of the '
                          "student on labels; compare 'cls' of a dense head, a RoI head, a "
                          'segmentor or a classifier')
        if self._labels is None:
            found = labels_of(
                self.labelled, self.calls, self.shapes, self.anchors, self.is_by_image)
            self._of_every_level = [one._replace(labels=self.renumbered(
                one.labels, limit_of(self.labelled))) for one in found]
            self._labels = self.chosen(self._of_every_level)
        return self._labels[self.level]

    def renumbered(self, labels: Tensor, classes: int) -> Tensor:
        """Labels as numbers of the compared columns, :data:`IGNORED` for classes that are left out.

        Args:
            labels (Tensor): int64, numbers of the student's classes; ``classes`` for background.
            classes (int): Number of the student's classes.
        """
        if self.kept is None:
            return labels
        number_of = {one: number for number, one in enumerate([*self.kept, classes])}
        table = constant(tuple(number_of.get(one, IGNORED) for one in range(classes + 1)),
                         labels.device)
        return table[labels.clamp(min=0)].where(labels >= 0, IGNORED)

    @property
    def labelled(self) -> Point:
        """The point whose loss modules are given the labels; see :func:`labelled_point`."""
        return labelled_point(self.point, self.further)

    @property
    def calls(self) -> List[Call]:
        """Calls of the loss modules that train this point on labels."""
        return [call for path in self.labelled.criteria for call in self.records[path]
                if call.kwargs.get('reduction_override') != 'none']

    @property
    def is_by_image(self) -> bool:
        """Whether these are given positions image by image, not level by level."""
        assert self.model is not None
        point = self.labelled
        # The student's own prediction, also where another one is compared (`through`).
        return is_given_by_image(self.model.get_submodule(point.criteria[0]), self.calls,
                                 lambda: point.levels(self.records), point.num_classes or 1)

    def left_out(self, of_every_level: Sequence[Any]) -> List[Any]:
        """Select the items of the levels that are not compared, the opposite of ``chosen``."""
        compared = set(self.chosen(range(len(self.shapes))))
        return [one for number, one in enumerate(of_every_level) if number not in compared]

    def left_out_labels(self) -> List[Labels]:
        """The labels of the levels that are not compared."""
        self.labels  # noqa: B018
        return self.left_out(self._of_every_level)

    def check_labelled(self, name: str) -> None:
        """Check that the batch has labels.

        Raises:
            Lacking: If it has none.
        """
        if not self.batch.is_labelled:
            raise Lacking(f'`{name}` is required, but the images have no labels; write '
                          "images='labelled' in the entry, or add mmkd.PseudoLabels")

    def all_labels(self) -> List[Labels]:
        """The labels of all levels."""
        self.labels  # noqa: B018
        assert self._labels is not None
        return self._labels


def labelled_point(point: Point, further: Sequence[Point]) -> Point:
    """The point whose loss modules are given the labels of positions.

    Boxes have the labels of the class logits of the same head, a further point of the entry.
    """
    if point.criteria or not point.is_prediction:
        return point
    return next((one for one in further if one.criteria), point)


Provider = Callable[[Context], Any]

PROVIDERS: Dict[str, Provider] = {}
"""Functions that provide the values, by name."""

def provides(name: str, per_level: bool = True) -> Callable[[Provider], Provider]:
    """Decorator that registers a function as provider of a value. Losses, regions and connectors
    may request the value by name.

    Args:
        name (str): The name.
        per_level (bool): Whether each level has its own value, or all levels share one. Defaults
            to True.

    Raises:
        TypeError: If ``name`` is not an identifier.

    Example:
        >>> @provides('mean_activation')
        ... def mean_activation(context):
        ...     return context.teacher[context.level].mean()
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise TypeError(f'a provided name must be a Python identifier, but got {name!r}; write for '
                        "instance @mmkd.provides('mean_activation')")

    def register(function: Provider) -> Provider:
        PROVIDERS[name] = function
        (SHARED.discard if per_level else SHARED.add)(name)
        return function

    return register


SHARED: Set[str] = set()
"""Names with one value for all levels."""


def values_of(asked: Asked, context: Context) -> Dict[str, Any]:
    """The values of one level.

    Args:
        asked (Asked): The requested names.
        context (Context): The context; its ``level`` is the level.

    Raises:
        ValueError: If the batch lacks a value that is required.
    """
    values: Dict[str, Any] = {}
    for name in asked.names:
        try:
            values[name] = context.shared(name) if name in SHARED else PROVIDERS[name](context)
        except Lacking:
            if name in asked.required:
                raise
            values[name] = None
    return values


def values_of_all(asked: Asked, context: Context) -> Dict[str, Any]:
    """The values of all levels: lists for names with one value per level."""
    values: Dict[str, Any] = {}
    for number in range(len(context.student)):
        context.level = number
        for name, value in values_of(asked, context).items():
            if name in SHARED:
                values[name] = value
            else:
                values.setdefault(name, []).append(value)
    return {name: None if isinstance(value, list) and name in PER_LEVEL and all(
        one is None for one in value) else value for name, value in values.items()}


class Lacking(ValueError):
    """A requested value is not in the batch."""


class Untriable(ValueError):
    """A user's value is not available for a blank image, so its loss is not tried."""


def made_up_values(asked: Asked, context: Context, is_list: bool) -> Dict[str, Any]:
    """Generate values for the trial of a loss on a blank image.

    Args:
        asked (Asked): The requested names.
        context (Context): The context of the blank image.
        is_list (bool): Whether the values are those of all levels, or of one.

    Raises:
        Untriable: If a name that a user provides has no value there.
    """
    generator = torch.Generator().manual_seed(0)
    known = ('also_sigmoid', 'centerness_sum', 'level', 'stride', 'input_size', 'image_sizes',
             'iteration', 'student_also', 'teacher_also', 'priors')

    def one(name: str, number: int) -> Any:
        context.level = number
        if name in known:
            return PROVIDERS[name](context)
        level = context.student[number]
        if PROVIDERS[name].__module__.startswith('mmkd.'):
            return _moved(made_up(name, level.cpu(), number, generator), level.device)
        try:
            return PROVIDERS[name](context)
        except Exception as error:  # a user's own may need data samples
            raise Untriable(f'`{name}` is not provided for a blank image: {said_by(error)}; return '
                            'a value from its function if `context.batch.data_samples` is '
                            'None') from error

    values: Dict[str, Any] = {}
    for name in asked.names:
        try:
            values[name] = one(name, context.level) if name in SHARED or not is_list else [
                one(name, number) for number in range(len(context.student))]
        except Lacking:
            if name in asked.required:
                raise
            values[name] = None
    return values


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, list):
        return [_moved(one, device) for one in value]
    return value.to(device) if isinstance(value, Tensor) else value
