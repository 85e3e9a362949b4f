"""How is a prediction converted to the classes of another model?"""
from typing import Any, List, Optional, Sequence, Tuple

import torch
from torch import Tensor

SAME = 0.6
"""IoU above which two boxes of different classes, which become one, are of one object."""


def groups_of(columns: Sequence[Any]) -> List[Tuple[int, ...]]:
    """The classes of a model for each class of another one, as tuples.

    Example:
        >>> groups_of([2, (0, 1), ()])
        [(2,), (0, 1), ()]
    """
    return [tuple(one) if isinstance(one, (tuple, list)) else (one, ) for one in columns]


def relabelled(prediction: Any, columns: Optional[Sequence[Any]]) -> Any:
    """Convert predicted instances to the classes of another model; see
    :meth:`mmkd.points.ModelFamily.relabel`.

    Instances of classes that the other model does not have are left out. A detector may find one
    object as two of its classes. Where these become one class, the box of the higher score is kept,
    if both overlap by an IoU of more than :data:`SAME`; boxes of one class are never compared,
    because the detector has already chosen among them.

    Args:
        prediction (DetDataSample): The prediction, changed in place.
        columns (Sequence[int | tuple[int]], optional): See there.
    """
    if columns is None or 'pred_instances' not in prediction:
        return prediction
    instances = prediction.pred_instances
    groups = groups_of(columns)
    of_column = {column: number for number, group in enumerate(groups) for column in group}
    before = instances.labels
    labels = before.new_tensor([of_column.get(label, -1) for label in before.tolist()])
    keep = labels >= 0
    if any(len(group) > 1 for group in groups) and 'bboxes' in instances and (
            'scores' in instances):
        keep &= ~_doubled(instances.bboxes, instances.scores, before, labels)
    instances.labels = labels
    prediction.pred_instances = instances[keep]
    return prediction


def _doubled(bboxes: Any, scores: Tensor, before: Tensor, labels: Tensor) -> Tensor:
    """Whether a box of a higher score, of another class that became the same one, covers it."""
    from mmdet.structures.bbox import bbox_overlaps  # boxes are mmdet's
    boxes = bboxes if isinstance(bboxes, Tensor) else bboxes.tensor
    rivals = (labels[:, None] == labels) & (before[:, None] != before)
    rivals &= bbox_overlaps(boxes, boxes) > SAME
    doubled = torch.zeros_like(labels, dtype=torch.bool)
    for one in scores.argsort(descending=True, stable=True).tolist():
        if not doubled[one]:
            doubled |= rivals[one] & (scores <= scores[one])
            doubled[one] = False
    return doubled


def relabelled_map(prediction: Any, columns: Optional[Sequence[Any]], are_logits: bool) -> Any:
    """Convert a predicted map to the classes of another model.

    Args:
        prediction (SegDataSample): The prediction with ``seg_logits``, changed in place.
        columns (Sequence[int | tuple[int]], optional): See
            :meth:`mmkd.points.ModelFamily.relabel`.
        are_logits (bool): Whether ``seg_logits`` are logits of a softmax; otherwise probabilities,
            as of mask transformers.
    """
    if columns is None:
        return prediction
    logits, groups = prediction.seg_logits.data, groups_of(columns)
    if len(logits) > 1:
        together = torch.logsumexp if are_logits else torch.sum
        kept = [number for number, group in enumerate(groups) if group]
        scores = torch.stack([
            logits[group[0]] if len(group) == 1 else together(logits[list(group)], 0)
            for group in groups if group])
        prediction.pred_sem_seg.data = scores.new_tensor(kept, dtype=torch.long)[
            scores.argmax(0, keepdim=True)]
    else:  # binary, by a threshold
        labels = prediction.pred_sem_seg.data
        number_of = labels.new_tensor([next(
            (number for number, group in enumerate(groups) if label in group), 255)
            for label in range(2)])
        prediction.pred_sem_seg.data = number_of[labels.long()]
    return prediction
