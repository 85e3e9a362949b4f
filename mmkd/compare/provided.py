"""The values that mmkd provides by name to losses, regions and connectors."""
from typing import Any, Callable, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, distributed

from ..core.asking import Asked
from ..points import Point, family_of, points_of
from ..points.labels import IGNORED, limit_of
from .vocabulary import Context, Lacking, labelled_point, provides

OF_CRITERION = ('labels', 'label_weights', 'num_positives', 'left_out_labels')
"""Names of values that are read from the call of the loss module that trains the student's logits
on labels."""

OF_DATA = (*OF_CRITERION, 'centerness_sum', 'boxes', 'box_labels', 'ignored_boxes',
           'instance_masks', 'label_map')
"""Names of values that only a batch with labels has."""

OF_GRID = ('stride', 'priors', 'left_out_priors')
"""Names of values that exist only for levels that are maps of the image."""

OF_TRUTH = ('boxes', 'box_labels', 'ignored_boxes', 'instance_masks', 'label_map')
"""Names of values of the ground truth."""


@provides('labels')
def _labels(context: Context) -> Tensor:
    return context.labels.labels


@provides('label_weights')
def _label_weights(context: Context) -> Tensor:
    return context.labels.weights


@provides('num_positives', per_level=False)
def _num_positives(context: Context) -> Tensor:
    """Number of positions with a class that is not background, averaged over processes; at least
    1."""
    limit = limit_of(context.labelled) if context.kept is None else len(context.kept)
    positives = [((one.labels >= 0) & (one.labels < limit)).sum() for one in context.all_labels()]
    return _averaged(torch.stack(positives).sum().float()).clamp(min=1)


@provides('centerness_sum', per_level=False)
def _centerness_sum(context: Context) -> Tensor:
    """Sum of the centerness of the positives in their boxes, averaged over processes; at least
    1."""
    context.check_labelled('centerness_sum')
    paths = context.labelled.centred_by
    if not paths:
        raise Lacking('`centerness_sum` is required, but the head of the student has no '
                      'centerness; choose a loss that does not need it')
    # A head without positives does not call the loss.
    targets = [call.args[1].sum() for path in paths for call in context.records[path]]
    total = torch.stack([context.student[0].new_zeros(()), *targets]).sum()
    return _averaged(total.detach().float()).clamp(min=1)


def _averaged(number: Tensor) -> Tensor:
    """The mean over processes."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(number)
        number = number / distributed.get_world_size()
    return number


def _of_samples(context: Context, name: str, read: Callable[[Any], Any]) -> List[Any]:
    samples = context.batch.data_samples
    if samples is None:
        raise Lacking(f'`{name}` is required, but the batch has no data samples; train with '
                      'labelled data, or choose a loss that does not need it')
    try:
        return [read(sample) for sample in samples]
    except (AttributeError, KeyError) as error:
        raise Lacking(f'`{name}` is required, but the data samples do not contain it ({error}); '
                      'load it in the training pipeline, or choose a loss that does not need '
                      'it') from error


def _boxes_of(instances: Any) -> Tensor:
    boxes = instances.bboxes
    boxes = boxes if isinstance(boxes, Tensor) else boxes.tensor
    if boxes.shape[-1] != 4:
        raise Lacking('the boxes of objects are required as x1, y1, x2, y2, but those of the data '
                      f'have {boxes.shape[-1]} columns, as rotated ones; choose a loss, and a '
                      'region, that does not need boxes')
    return boxes  # type: ignore[no-any-return]


def _has_partner(context: Context, sample: Any) -> Any:
    """Index of the objects whose class is compared."""
    if context.kept is None:
        return slice(None)
    return context.renumbered(sample.gt_instances.labels, _classes_of(context)) >= 0


def _classes_of(context: Context) -> int:
    """Number of the student's classes, compared or not."""
    point = context.point
    if not point.num_named:
        assert context.model is not None
        point = points_of(context.model, 'student')['cls']
    return point.num_named


@provides('boxes', per_level=False)
def _boxes(context: Context) -> List[Tensor]:
    return _of_samples(context, 'boxes', lambda sample: _boxes_of(
        sample.gt_instances)[_has_partner(context, sample)])


@provides('box_labels', per_level=False)
def _box_labels(context: Context) -> List[Tensor]:
    def read(sample: Any) -> Tensor:
        labels: Tensor = sample.gt_instances.labels[_has_partner(context, sample)]
        return labels if context.kept is None else context.renumbered(labels, _classes_of(context))

    return _of_samples(context, 'box_labels', read)


@provides('ignored_boxes', per_level=False)
def _ignored_boxes(context: Context) -> List[Tensor]:
    """(K, 4) per sample; (0, 4) for a sample without ignored boxes. Boxes of classes that are not
    compared are ignored ones, too."""
    def read(sample: Any) -> Tensor:
        found = context.batch.inputs.new_zeros(0, 4)
        if 'ignored_instances' in sample and 'bboxes' in sample.ignored_instances:
            found = _boxes_of(sample.ignored_instances)
        if context.kept is None:
            return found
        return torch.cat([found, _boxes_of(sample.gt_instances)[~_has_partner(context, sample)]])

    return _of_samples(context, 'ignored_boxes', read)


@provides('instance_masks', per_level=False)
def _instance_masks(context: Context) -> List[Tensor]:
    inputs = context.batch.inputs
    return _of_samples(context, 'instance_masks', lambda sample: (
        sample.gt_instances.masks.to_tensor(dtype=torch.bool, device=inputs.device)[
            _has_partner(context, sample)]))


@provides('label_map', per_level=False)
def _label_map(context: Context) -> Tensor:
    """(N, H, W), int64; :data:`IGNORED` for labels that the student's head ignores."""
    maps = torch.stack(_of_samples(
        context, 'label_map', lambda sample: sample.gt_sem_seg.data)).squeeze(1).long()
    assert context.model is not None
    ignored = family_of(context.model).ignored_label(context.model)
    maps = maps.masked_fill(maps == ignored, IGNORED)
    return maps if context.kept is None else context.renumbered(
        maps.masked_fill(maps >= _classes_of(context), IGNORED), _classes_of(context))


@provides('num_classes', per_level=False)
def _num_classes(context: Context) -> int:
    """Number of classes that the student predicts and that are compared, without background."""
    if context.kept is not None:
        return len(context.kept)
    if context.point.num_named:
        return context.point.num_named
    assert context.model is not None
    points = points_of(context.model, 'student')
    if not points.get('cls') or not points['cls'].num_named:
        raise Lacking("`num_classes` is required, but the student has no point 'cls' with named "
                      'classes; choose a loss that does not need it')
    return points['cls'].num_named


@provides('image_sizes', per_level=False)
def _image_sizes(context: Context) -> Tensor:
    """(N, 2), int64: height and width without padding; for a blank image, those of the input."""
    inputs = context.batch.inputs
    samples = context.batch.data_samples or [None] * len(inputs)
    whole = tuple(inputs.shape[2:])  # of a blank image, and of samples without a size
    return torch.tensor([whole if one is None else tuple(one.get('img_shape', whole)[:2])
                         for one in samples]).to(inputs.device, non_blocking=True)


@provides('input_size', per_level=False)
def _input_size(context: Context) -> Tuple[int, int]:
    """Height and width of the padded input, in pixels."""
    return context.batch.inputs.shape[2], context.batch.inputs.shape[3]


@provides('sample_ids', per_level=False)
def _sample_ids(context: Context) -> Tensor:
    """(N,), int64: ids of the samples in their data set."""
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
    """Pixels of the input per position, vertically."""
    if not context.strides:
        raise Lacking(f'`stride` is required, but `{context.point.name}` is not a map of the '
                      "image; compare 'neck' or 'backbone'")
    return float(context.strides[context.level][0])


@provides('level')
def _level(context: Context) -> int:
    return context.numbers[context.level]


@provides('priors')
def _priors(context: Context) -> Tensor:
    """Boxes (H·W·anchors, 4), or points (H·W, 2), in pixels of the input."""
    return context.chosen(_priors_of_every_level(context))[context.level]


@provides('left_out_priors', per_level=False)
def _left_out_priors(context: Context) -> List[Tensor]:
    """Like `priors`, of the student's levels that are not compared, one item per level."""
    return context.left_out(_priors_of_every_level(context))


@provides('left_out_labels', per_level=False)
def _left_out_labels(context: Context) -> List[Tensor]:
    """Like `labels`, of the student's levels that are not compared, one item per level."""
    return [one.labels for one in context.left_out_labels()]


def _priors_of_every_level(context: Context) -> List[Tensor]:
    assert context.model is not None
    sizes = [(shape[2], shape[3]) for shape in context.shapes] if context.strides else []
    priors = family_of(context.model).priors(context.model, sizes, context.student[0])
    if not sizes or len(priors) != len(sizes):
        raise Lacking('`priors` is required, but the student has none for the levels of '
                      f"`{context.point.name}`; compare 'cls' of a dense head")
    return priors


@provides('student_also')
def _student_also(context: Context) -> List[Tensor]:
    return _also(context, 0, 'student_also')


@provides('teacher_also')
def _teacher_also(context: Context) -> List[Tensor]:
    return _also(context, 1, 'teacher_also')


def _also(context: Context, side: int, name: str) -> List[Tensor]:
    if not context.also[side]:
        raise Lacking(f'`{name}` is required, but the entry has no further points; write for '
                      "instance also=['reg']")
    return context.also[side][context.level]


@provides('also_sigmoid', per_level=False)
def _also_sigmoid(context: Context) -> List[Optional[bool]]:
    """Per further point, whether its logits are activated by sigmoid; None for other points."""
    return [point.use_sigmoid for point in context.further]


def calls_to_record(point: Point, further: Sequence[Point], asked: Asked) -> Tuple[str, ...]:
    """Paths of the loss modules to record for the requested values."""
    labelled = labelled_point(point, further)
    paths = labelled.criteria if any(name in OF_CRITERION for name in asked.names) else ()
    return (*paths, *(labelled.centred_by if 'centerness_sum' in asked.names else ()))
