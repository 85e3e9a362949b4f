"""Which label does each position of a point have, by the calls of its loss module?"""
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from .point import Point
from .recorder import Call

IGNORED = -1
"""The label of a position that the student's own loss ignores."""


class Labels(NamedTuple):
    """The labels of one level."""
    labels: Tensor
    """int64 (N, *positions), or (N·anchors, H, W): columns of the student, from 0; the number of
    named columns for background; or :data:`IGNORED`."""
    weights: Tensor
    """float32, the same shape: weights of the positions in the student's own loss."""


def labels_of(point: Point, calls: Sequence[Call], level_shapes: Sequence[torch.Size],
              anchors: int) -> List[Labels]:
    """Read the labels from the arguments of the loss modules of a point.

    Args:
        point (Point): A point with ``criteria``.
        calls (Sequence[Call]): Calls of its loss modules in one step, in order. If several loss
            modules train the same logits, calls of the first one.
        level_shapes (Sequence[torch.Size]): (R, C), or (N·anchors, C, H, W), one per level.
        anchors (int): Number of anchors per position.

    Returns:
        list[Labels]: One per level.

    Raises:
        ValueError: If the targets of the loss are scores instead of labels, or not one label per
            position.
    """
    found = [_of_call(point, call) for call in calls]
    if found and found[0][0].dim() == 3:  # of a segmentor, in the size of the image
        labels, weights = found[0]
        # Floats are exact up to 2**24, far beyond any label.
        return [Labels(_nearest(labels.float(), shape).long(), _nearest(weights, shape))
                for shape in level_shapes]
    sides = [arranged([one[side] for one in found], level_shapes, anchors) for side in (0, 1)]
    return [Labels(labels.long(), weights) for labels, weights in zip(*sides)]


def arranged(flat: Sequence[Tensor], level_shapes: Sequence[torch.Size],
             anchors: int) -> List[Tensor]:
    """Reshape flat values of positions, in the order of mmdet's losses, to the levels of a point.

    Args:
        flat (Sequence[Tensor]): Per call of the loss, in the order of image, height, width, anchor,
            level by level.
        level_shapes (Sequence[torch.Size]): (R, C), or (N·anchors, C, H, W).
        anchors (int): Number of anchors per position.

    Returns:
        list[Tensor]: (R,) or (N·anchors, H, W), one per level.

    Raises:
        ValueError: If the numbers of values and positions differ.
    """
    sizes = [shape.numel() // shape[1] if shape[1] else 0 for shape in level_shapes]
    joined = torch.cat([one.flatten() for one in flat]) if flat else torch.zeros(0)
    if sum(sizes) != len(joined):
        raise ValueError(
            f"the student's loss had labels for {len(joined)} positions of {sum(sizes)}, so it is "
            'not known which label each position has; write `per_anchor=True` where a position '
            'has several anchors, or choose a loss without labels')
    levels = []
    for one, shape in zip(joined.split(sizes), level_shapes):
        if len(shape) > 2:
            height, width = shape[2:]
            one = one.view(-1, height, width, anchors).permute(0, 3, 1, 2).flatten(0, 1)
        levels.append(one)
    return levels


def target_of(call: Call) -> Tensor:
    """The labels in a call of a loss module: the second argument, or its first item."""
    target = call.args[1] if len(call.args) > 1 else next(
        (call.kwargs[name] for name in ('target', 'label', 'labels') if name in call.kwargs), None)
    labels = target[0] if isinstance(target, (tuple, list)) else target
    if not isinstance(labels, Tensor) or labels.is_floating_point():
        raise ValueError("the student's loss is given scores, not labels, so it is not known which "
                         'label a position has; choose a loss without labels')
    return labels


def _of_call(point: Point, call: Call) -> Tuple[Tensor, Tensor]:
    labels = target_of(call)
    weight: Optional[Any] = call.args[2] if len(call.args) > 2 else call.kwargs.get('weight')
    weights = torch.ones_like(labels, dtype=torch.float32) if not isinstance(weight, Tensor) else (
        weight.float())
    if weights.shape != labels.shape:  # one weight per column
        weights = weights.reshape(*labels.shape, -1).amax(-1)
    if labels.dim() == 3:
        ignore = call.kwargs.get('ignore_index', 255)
        is_ignored = (labels == ignore) | (labels < 0) | (labels >= point.num_named)
    else:
        labels = labels.clamp(max=limit_of(point))
        is_ignored = (labels < 0) | (weights == 0)
    return labels.masked_fill(is_ignored, IGNORED), weights


def limit_of(point: Point) -> int:
    """The smallest label of the background."""
    assert point.num_classes is not None
    return point.num_named or point.num_classes - (not point.use_sigmoid)  # an RPN has no classes


def _nearest(values: Tensor, shape: torch.Size) -> Tensor:
    return interpolate(values.unsqueeze(1), size=shape[2:], mode='nearest').squeeze(1)
