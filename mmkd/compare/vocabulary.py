"""Which values may losses, regions and connectors ask for by name, and where do they come from?"""
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from ..core.asking import Asked
from ..losses.base import PER_LEVEL
from ..losses.trial import made_up
from ..points import Point
from ..points.labels import Labels, labels_of
from ..points.recorder import Records


@dataclass
class Batch:
    """One batch, as the student sees it."""
    inputs: Tensor
    """Float (N, C, H, W), normalised and padded."""
    data_samples: Optional[Sequence[Any]]
    """The N samples; None for a blank image."""
    iteration: int = 0
    """Number of the iteration of the run, from 0."""


@dataclass
class Context:
    """What is known where values are asked for: one term in one step."""
    batch: Batch
    model: Optional[nn.Module]
    """The student; None where only the levels are wanted."""
    point: Point
    """Its point that is compared."""
    records: Records
    """What was recorded of it in this step."""
    student: List[Tensor]
    """The student's levels as they are compared."""
    teacher: List[Tensor]
    """The teacher's."""
    strides: Sequence[Any] = ()
    """Pixels of the input per position, one per level; () where levels are no maps of the image."""
    numbers: Sequence[int] = ()
    """Number of each level."""
    anchors: int = 1
    """Anchors that were split off, so that levels are (N·anchors, C, H, W)."""
    also: Tuple[List[List[Tensor]], List[List[Tensor]]] = field(default_factory=lambda: ([], []))
    """By level, what the further points of the entry return: the student's, the teacher's."""
    further: Sequence[Point] = ()
    """These points, of the student."""
    level: int = 0
    """Position in the lists of the level that is asked for."""
    shapes: Sequence[torch.Size] = ()
    """Of all levels of the student's point, anchors split off, also of those that are left out."""
    chosen: Callable[[Sequence[Any]], List[Any]] = list
    """Takes, of something for each of these, that of the levels that are compared."""
    _labels: Optional[List[Labels]] = None

    @property
    def labels(self) -> Labels:
        """The labels of this level.

        Raises:
            Lacking: If it is not known which loss trains the point on labels.
        """
        if not self.point.criteria:
            raise Lacking(f'which loss trains `{self.point.name}` of the student on labels is not '
                          "known to mmkd; compare 'cls' of a dense head, a RoI head or a segmentor")
        if self._labels is None:
            calls = [call for path in self.point.criteria for call in self.records[path]
                     if call.kwargs.get('reduction_override') != 'none']
            self._labels = self.chosen(labels_of(self.point, calls, self.shapes, self.anchors))
        return self._labels[self.level]

    def all_labels(self) -> List[Labels]:
        """The labels of all levels."""
        self.labels  # noqa: B018
        assert self._labels is not None
        return self._labels


Provider = Callable[[Context], Any]

PROVIDERS: Dict[str, Provider] = {}
"""What provides a value, by its name."""

def provides(name: str, per_level: bool = True) -> Callable[[Provider], Provider]:
    """Add a name that losses, regions and connectors may ask for; a decorator of a function.

    Args:
        name (str): The name.
        per_level (bool): Whether each level has a value of its own; else all levels share one.
            Defaults to True.

    Raises:
        TypeError: If ``name`` is no identifier.

    Example:
        >>> @provides('mean_activation')
        ... def mean_activation(context):
        ...     return context.teacher[context.level].mean()
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise TypeError(f'a provided name must be a word, but got {name!r}; write for instance '
                        "@mmkd.provides('mean_activation')")

    def register(function: Provider) -> Provider:
        PROVIDERS[name] = function
        (SHARED.discard if per_level else SHARED.add)(name)
        return function

    return register


SHARED = {'boxes', 'box_labels', 'ignored_boxes', 'instance_masks', 'label_map', 'image_sizes',
          'input_size', 'sample_ids', 'iteration', 'num_positives', 'also_sigmoid'}
"""Names whose value is that of the whole batch."""


def values_of(asked: Asked, context: Context) -> Dict[str, Any]:
    """The values of one level.

    Args:
        asked (Asked): What is asked for.
        context (Context): Its ``level`` tells the level.

    Raises:
        ValueError: If the batch lacks a value that is required.
    """
    values: Dict[str, Any] = {}
    for name in asked.names:
        try:
            values[name] = PROVIDERS[name](context)
        except Lacking:
            if name in asked.required:
                raise
            values[name] = None
    return values


def values_of_all(asked: Asked, context: Context) -> Dict[str, Any]:
    """The values of all levels: lists of those that each level has its own of."""
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
    """A batch lacks a value."""


def made_up_values(asked: Asked, context: Context, is_list: bool) -> Optional[Dict[str, Any]]:
    """Values to try a loss with before training, on a blank image; None if there are none of a
    user's own on an image without data samples.

    Args:
        asked (Asked): What is asked for.
        context (Context): On the blank image.
        is_list (bool): Whether values of all levels are given, or those of one.
    """
    generator = torch.Generator().manual_seed(0)
    known = ('level', 'stride', 'input_size', 'image_sizes', 'iteration', 'student_also',
             'teacher_also', 'priors')

    def one(name: str, number: int) -> Any:
        context.level = number
        if name in known:
            return PROVIDERS[name](context)
        level = context.student[number]
        try:
            return _moved(made_up(name, level.cpu(), number, generator), level.device)
        except KeyError:
            return PROVIDERS[name](context)

    values: Dict[str, Any] = {}
    for name in asked.names:
        try:
            values[name] = one(name, context.level) if name in SHARED or not is_list else [
                one(name, number) for number in range(len(context.student))]
        except Lacking:
            if name in asked.required:
                raise
            values[name] = None
        except Exception:  # a user's own may need samples, which a blank image has none of
            return None
    return values


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, list):
        return [_moved(one, device) for one in value]
    return value.to(device) if isinstance(value, Tensor) else value
