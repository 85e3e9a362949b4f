"""Which label does each position of a point have, by the calls of its loss module?"""
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Tuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
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
              anchors: int, is_by_image: bool = False) -> List[Labels]:
    """Read the labels from the arguments of the loss modules of a point.

    Args:
        point (Point): A point with ``criteria``.
        calls (Sequence[Call]): Calls of its loss modules in one step, in order. If several loss
            modules train the same logits, calls of the first one.
        level_shapes (Sequence[torch.Size]): (R, C), or (N·anchors, C, H, W), one per level.
        anchors (int): Number of anchors per position.
        is_by_image (bool): See :func:`arranged`. Defaults to False.

    Returns:
        list[Labels]: One per level.

    Raises:
        ValueError: If the targets of the loss are scores instead of labels, or not one label per
            position.
    """
    positions = sum(shape.numel() // shape[1] for shape in level_shapes if shape[1])
    if len(level_shapes) == 1 and calls and len(target_of(calls[0], point)) == positions:
        calls = calls[:1]  # further ones have the same labels: Conformer has two classifiers
    found = [_of_call(point, call) for call in calls]
    if found and found[0][0].dim() == 3:  # of a segmentor, in the size of the image
        labels, weights = found[0]
        # Floats are exact up to 2**24, far beyond any label.
        return [Labels(_nearest(labels.float(), shape).long(), _nearest(weights, shape))
                for shape in level_shapes]
    sides = [arranged([one[side] for one in found], level_shapes, anchors, is_by_image)
             for side in (0, 1)]
    return [Labels(labels.long(), weights) for labels, weights in zip(*sides)]


def arranged(flat: Sequence[Tensor], level_shapes: Sequence[torch.Size], anchors: int,
             is_by_image: bool = False) -> List[Tensor]:
    """Reshape flat values of positions, in the order of mmdet's losses, to the levels of a point.

    Args:
        flat (Sequence[Tensor]): Per call of the loss, in the order of image, height, width, anchor,
            level by level.
        level_shapes (Sequence[torch.Size]): (R, C), or (N·anchors, C, H, W).
        anchors (int): Number of anchors per position.
        is_by_image (bool): Whether values are given image by image, each with all levels, as by
            PAA; otherwise level by level. Defaults to False.

    Returns:
        list[Tensor]: (R,) or (N·anchors, H, W), one per level.

    Raises:
        ValueError: If the numbers of values and positions differ.
    """
    sizes = [shape.numel() // shape[1] if shape[1] else 0 for shape in level_shapes]
    joined = torch.cat([one.flatten() for one in flat]) if flat else torch.zeros(0)
    if sum(sizes) != len(joined):
        raise ValueError(
            f"the student's loss has labels for {len(joined)} of {sum(sizes)} positions, so the "
            'label of each position is not known; write `per_anchor=True` if a position has '
            'several anchors, or choose a loss that does not need labels')
    images = level_shapes[0][0] // anchors if level_shapes else 1
    pieces = joined.split(sizes) if not is_by_image else [
        piece.flatten() for piece in joined.view(images, -1).split(
            [size // images for size in sizes], dim=1)]
    levels = []
    for one, shape in zip(pieces, level_shapes):
        if len(shape) > 2:
            height, width = shape[2:]
            one = one.view(-1, height, width, anchors).permute(0, 3, 1, 2).flatten(0, 1)
        levels.append(one)
    return levels


BY_IMAGE: 'WeakKeyDictionary[nn.Module, bool]' = WeakKeyDictionary()
"""Per loss module, whether it is given positions image by image, as found in its first step."""


def is_given_by_image(criterion: nn.Module, calls: Sequence[Call],
                      read: Callable[[], Sequence[Tensor]], columns: int) -> bool:
    """Find out in which order a loss module is given positions, by comparing the predictions.

    The first call for a module makes the CPU wait for a GPU; the result is kept.

    Args:
        criterion (nn.Module): The loss module.
        calls (Sequence[Call]): Its calls in one step.
        read (Callable): Returns what the student predicts at the point, (N, anchors·columns, H,
            W), all levels. It is called only in the first step.
        columns (int): Columns of one prediction.

    Raises:
        ValueError: If it is neither of the orders of :func:`arranged`.
    """
    if not calls:
        return False
    if criterion not in BY_IMAGE:
        levels = read()
        if len(levels) < 2 or any(one.dim() != 4 for one in levels):
            return False
        rows = [one.detach().permute(0, 2, 3, 1).reshape(len(one), -1, columns).float()
                for one in levels]
        given = torch.cat([call.args[0].detach().reshape(-1, columns).float() for call in calls])
        orders = [torch.cat([one.flatten(0, 1) for one in rows]),
                  torch.cat(rows, dim=1).flatten(0, 1)]
        # The logits of a head that returns probabilities are computed from these.
        fits = [given.shape == one.shape and any(
            torch.allclose(given, same, atol=1e-4) for same in (one, one.sigmoid()))
            for one in orders]
        if not any(fits):
            raise ValueError("mmkd does not know the order of the positions in the student's loss, "
                             'so their labels are not known; choose a loss that does not need '
                             "labels, or write `replaces='all'`")
        BY_IMAGE[criterion] = not fits[0]
    return BY_IMAGE[criterion]


def target_of(call: Call, point: Optional[Point] = None) -> Tensor:
    """The labels in a call of a loss module: the second argument, or its first item.

    Args:
        call (Call): The call.
        point (Point, optional): The point that the loss module trains. If its classes exclude each
            other (softmax), scores (N, C) of its logits, as of Mixup and CutMix, stand for the
            class with the highest score, the first of several. Defaults to None, no scores.

    Raises:
        ValueError: If the targets are scores.
    """
    target = call.args[1] if len(call.args) > 1 else next(
        (call.kwargs[name] for name in ('target', 'label', 'labels') if name in call.kwargs), None)
    labels = target[0] if isinstance(target, (tuple, list)) else target
    if point is not None and point.use_sigmoid is False and isinstance(labels, Tensor) and (
            labels.dim() == 2 and labels.shape == call.args[0].shape):
        return labels.argmax(1)
    if not isinstance(labels, Tensor) or labels.is_floating_point():
        raise ValueError("the targets of the student's loss are scores, so the label of each "
                         'position is not known; choose a loss that does not need labels')
    return labels


def _of_call(point: Point, call: Call) -> Tuple[Tensor, Tensor]:
    labels = target_of(call, point)
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
