"""Which values may losses, regions and connectors ask for by name, and where do they come from?"""
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, distributed, nn

from ..core.asking import Asked
from ..losses.base import PER_LEVEL
from ..losses.trial import made_up
from ..points import Point, family_of
from ..points.labels import IGNORED, Labels, labels_of, limit_of
from ..points.recorder import Call, Records


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
    level: int = 0
    """Position in the lists of the level that is asked for."""
    _labels: Optional[List[Labels]] = None

    @property
    def labels(self) -> Labels:
        """The labels of this level."""
        if self._labels is None:
            calls = [call for path in self.point.criteria for call in self.records[path]
                     if call.kwargs.get('reduction_override') != 'none']
            shapes = [one.shape for one in self.student]
            self._labels = labels_of(self.point, calls, shapes, self.anchors)
        return self._labels[self.level]

    def all_labels(self) -> List[Labels]:
        """The labels of all levels."""
        self.labels  # noqa: B018
        assert self._labels is not None
        return self._labels


Provider = Callable[[Context], Any]

PROVIDERS: Dict[str, Provider] = {}
"""What provides a value, by its name."""

OF_CRITERION = ('labels', 'label_weights', 'num_positives')
"""Names that are read from the call of the loss that trains the student's logits on labels."""

OF_GRID = ('stride', 'priors')
"""Names that only levels have which are maps of the image."""

OF_TRUTH = ('boxes', 'box_labels', 'ignored_boxes', 'instance_masks', 'label_map')
"""Names of the ground truth."""


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
          'input_size', 'sample_ids', 'iteration', 'num_positives'}
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


@provides('labels')
def _labels(context: Context) -> Tensor:
    return context.labels.labels


@provides('label_weights')
def _label_weights(context: Context) -> Tensor:
    return context.labels.weights


@provides('num_positives', per_level=False)
def _num_positives(context: Context) -> Tensor:
    """Positions of a named class, on average over processes; at least 1."""
    limit = limit_of(context.point)
    positives = [((one.labels >= 0) & (one.labels < limit)).sum() for one in context.all_labels()]
    total = torch.stack(positives).sum().float()
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(total)
        total = total / distributed.get_world_size()
    return total.clamp(min=1)


def _of_samples(context: Context, name: str, read: Callable[[Any], Any]) -> List[Any]:
    samples = context.batch.data_samples
    if samples is None:
        raise Lacking(f'`{name}` is asked for, but the batch has no data samples; train with data '
                      'that is labelled, or choose a loss that does without')
    try:
        return [read(sample) for sample in samples]
    except (AttributeError, KeyError) as error:
        raise Lacking(f'`{name}` is asked for, but the data samples hold none ({error}); load it '
                      'in the training pipeline, or choose a loss that does without') from error


def _boxes_of(instances: Any) -> Tensor:
    boxes = instances.bboxes
    return boxes if isinstance(boxes, Tensor) else boxes.tensor


@provides('boxes', per_level=False)
def _boxes(context: Context) -> List[Tensor]:
    return _of_samples(context, 'boxes', lambda sample: _boxes_of(sample.gt_instances))


@provides('box_labels', per_level=False)
def _box_labels(context: Context) -> List[Tensor]:
    return _of_samples(context, 'box_labels', lambda sample: sample.gt_instances.labels)


@provides('ignored_boxes', per_level=False)
def _ignored_boxes(context: Context) -> List[Tensor]:
    """Of a sample without such boxes, none."""
    def read(sample: Any) -> Tensor:
        if 'ignored_instances' in sample and 'bboxes' in sample.ignored_instances:
            return _boxes_of(sample.ignored_instances)
        return context.batch.inputs.new_zeros(0, 4)

    return _of_samples(context, 'ignored_boxes', read)


@provides('instance_masks', per_level=False)
def _instance_masks(context: Context) -> List[Tensor]:
    inputs = context.batch.inputs
    return _of_samples(context, 'instance_masks', lambda sample: (
        sample.gt_instances.masks.to_tensor(dtype=torch.bool, device=inputs.device)))


@provides('label_map', per_level=False)
def _label_map(context: Context) -> Tensor:
    """(N, H, W), int64; :data:`IGNORED` where the student's head ignores the label."""
    maps = torch.stack(_of_samples(
        context, 'label_map', lambda sample: sample.gt_sem_seg.data)).squeeze(1).long()
    assert context.model is not None
    ignored = family_of(context.model).ignored_label(context.model)
    return maps.masked_fill(maps == ignored, IGNORED)


@provides('image_sizes', per_level=False)
def _image_sizes(context: Context) -> Tensor:
    """(N, 2), int64: height and width without padding; of a blank image those of the input."""
    inputs = context.batch.inputs
    samples = context.batch.data_samples or [None] * len(inputs)
    return torch.tensor([tuple(inputs.shape[2:]) if one is None else tuple(one.img_shape[:2])
                         for one in samples]).to(inputs.device, non_blocking=True)


@provides('input_size', per_level=False)
def _input_size(context: Context) -> Tuple[int, int]:
    """Height and width of the padded input, in pixels."""
    return context.batch.inputs.shape[2], context.batch.inputs.shape[3]


@provides('sample_ids', per_level=False)
def _sample_ids(context: Context) -> Tensor:
    """(N,), int64: numbers of the samples in their data set."""
    def read(sample: Any) -> int:
        found = [sample.get(name) for name in ('img_id', 'sample_idx')
                 if isinstance(sample.get(name), int)]
        if not found:
            raise KeyError("write meta_keys=(..., 'sample_idx') in the packing transform")
        return found[0]

    return torch.tensor(_of_samples(context, 'sample_ids', read))


@provides('iteration', per_level=False)
def _iteration(context: Context) -> int:
    return context.batch.iteration


@provides('stride')
def _stride(context: Context) -> float:
    """Pixels of the input per position, of the height."""
    return float(context.strides[context.level][0])


@provides('level')
def _level(context: Context) -> int:
    return context.numbers[context.level]


@provides('priors')
def _priors(context: Context) -> Tensor:
    """(H·W·anchors, 4), boxes, or (H·W, 2), points, in pixels of the input."""
    sizes = [(one.shape[2], one.shape[3]) for one in context.student]
    assert context.model is not None
    return family_of(context.model).priors(
        context.model, context.level, sizes, context.student[0])


@provides('student_also')
def _student_also(context: Context) -> List[Tensor]:
    return context.also[0][context.level]


@provides('teacher_also')
def _teacher_also(context: Context) -> List[Tensor]:
    return context.also[1][context.level]


def made_up_values(asked: Asked, context: Context, is_list: bool) -> Optional[Dict[str, Any]]:
    """Values to try a loss with before training, on a blank image; None if some are a user's own.

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
        return _moved(made_up(name, level.cpu(), number, generator), level.device)

    try:
        return {name: one(name, context.level) if name in SHARED or not is_list else
                [one(name, number) for number in range(len(context.student))]
                for name in asked.names}
    except KeyError:
        return None


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, list):
        return [_moved(one, device) for one in value]
    return value.to(device) if isinstance(value, Tensor) else value


def calls_to_record(point: Point, asked: Asked) -> Tuple[str, ...]:
    """Paths of the loss modules whose calls tell what is asked for."""
    return point.criteria if any(name in OF_CRITERION for name in asked.names) else ()


__all__ = ['Batch', 'Call', 'Context', 'provides']
