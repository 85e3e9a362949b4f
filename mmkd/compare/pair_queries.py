"""How are unordered predictions of student and teacher paired?"""
from typing import List, Sequence, Tuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate, logsigmoid

from ..points.queries import Queries

CLASS_COST = 2.
BOX_COST, GIOU_COST = 5., 2.
PIXEL_COST, DICE_COST = 5., 5.
"""Weights of the parts of the cost: those of the matching of queries with ground truth, by boxes in
DETR and its variants, by masks in Mask2Former."""

Order = List[Tuple[Tensor, Tensor]]
"""Per image, the numbers of the student's queries, and the numbers of their partners."""


class NotFinite(ValueError):
    """A prediction is infinite or not a number."""


def pair_queries(student: Queries, teacher: Queries) -> Order:
    """Pair the predictions of student and teacher in each image.

    The cost of a pair is half the L1 distance of its class probabilities (between 0 and 1) plus the
    distance of its places: for boxes the L1 distance and the generalized IoU, for masks the mean KL
    divergence of the pixels and the Dice loss. The pairs are the assignment of minimal total cost
    (Hungarian algorithm).

    Args:
        student (Queries): Q predictions per image.
        teacher (Queries): P predictions per image, of the same classes.

    Returns:
        list[tuple[Tensor, Tensor]]: Per image, numbers of the student's and of the teacher's
        queries, both int64 (min(Q, P), ).

    Raises:
        NotFinite: If a prediction is infinite or not a number.
        ValueError: If the kinds of places or the numbers of classes differ.
    """
    if student.coding != teacher.coding:
        raise ValueError("predictions are paired by class and box, but the student's boxes are "
                         f"coded as {student.coding}, the teacher's as {teacher.coding}; compare "
                         "'neck' or 'backbone', or use a teacher of the student's model family")
    if student.logits.shape[1] != teacher.logits.shape[1]:
        raise ValueError(f"the student's queries have {student.logits.shape[1]} class columns, the "
                         f"teacher's {teacher.logits.shape[1]}; use a teacher with the same "
                         'classes')
    # Imported here: an environment that has only mmpretrain may lack scipy.
    from scipy.optimize import linear_sum_assignment
    order: Order = []
    distance = _between_masks if student.where.dim() == 4 else _between_boxes
    # In half precision the sum over the pixels of a mask overflows.
    with torch.no_grad(), torch.autocast(student.logits.device.type, enabled=False):
        probabilities = [side.logits.float().sigmoid() if side.use_sigmoid else
                         side.logits.float().softmax(1) for side in (student, teacher)]
        for image in range(len(student.logits)):
            p, q = (side[image].T for side in probabilities)
            cost = CLASS_COST * torch.cdist(p, q, p=1) / 2 + distance(
                student.where[image].float(), teacher.where[image].float())
            if not cost.isfinite().all():
                raise NotFinite(
                    'queries cannot be paired, because a prediction of the student or the teacher '
                    'is infinite or NaN; check whether the training diverges (learning rate, '
                    'precision) and whether the weights of the teacher are loaded')
            rows, columns = linear_sum_assignment(cost.cpu().numpy())
            order.append((torch.as_tensor(rows, device=cost.device),
                          torch.as_tensor(columns, device=cost.device)))
    return order


def in_order(level: Tensor, numbers: Sequence[Tensor], dim: int) -> Tensor:
    """Select the queries of each image by their numbers.

    Args:
        level (Tensor): (N, ...), queries in dimension ``dim``.
        numbers (Sequence[Tensor]): N of (K, ), int64.
        dim (int): The dimension.
    """
    one = dim if dim < 0 else dim - 1
    return torch.stack([image.index_select(one, which) for image, which in zip(level, numbers)])


def _between_boxes(a: Tensor, b: Tensor) -> Tensor:
    """(Q, P) from (4, Q) and (4, P)."""
    a, b = a.T, b.T
    return BOX_COST * torch.cdist(a, b, p=1) - GIOU_COST * generalized_iou(a, b)


def _between_masks(a: Tensor, b: Tensor) -> Tensor:
    """(Q, P) from (Q, H, W) and (P, H', W'), logits."""
    if a.shape[1:] != b.shape[1:]:
        b = interpolate(b[None], size=a.shape[1:], mode='bilinear', align_corners=False)[0]
    a, b = a.flatten(1), b.flatten(1)
    p, q = a.sigmoid(), b.sigmoid()
    entropy = -(q * logsigmoid(b) + (1 - q) * logsigmoid(-b)).mean(1)
    cross = -(logsigmoid(a) @ q.T + logsigmoid(-a) @ (1 - q).T) / a.shape[1]
    dice = 1 - (2 * p @ q.T + 1) / (p.square().sum(1)[:, None] + q.square().sum(1) + 1)
    return PIXEL_COST * (cross - entropy) + DICE_COST * dice


def generalized_iou(a: Tensor, b: Tensor) -> Tensor:
    """Generalized IoU of all pairs of boxes, (Q, P), in [-1, 1].

    `Rezatofighi et al., 2019 <https://arxiv.org/abs/1902.09630>`_, algorithm 1.

    Args:
        a (Tensor): (Q, 4), (cx, cy, w, h).
        b (Tensor): (P, 4).
    """
    # Only models of mmdet predict sets with boxes, so mmdet is installed here.
    from mmdet.structures.bbox import bbox_cxcywh_to_xyxy, bbox_overlaps
    return bbox_overlaps(bbox_cxcywh_to_xyxy(a), bbox_cxcywh_to_xyxy(b), mode='giou')
