"""Which prediction of the teacher is which of the student's, where neither has an order?"""
from typing import List, Tuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

CLASS_COST, BOX_COST, GIOU_COST = 2., 5., 2.
"""Weights of the parts of the cost: those by which DETR and its kin match queries and objects."""


def pair_sets(student: Tensor, teacher: Tensor, student_boxes: Tensor, teacher_boxes: Tensor,
              use_sigmoid: bool) -> Tuple[Tensor, Tensor]:
    """Bring the predictions of both sides into one order, image by image.

    The cost of a pair is the L1 distance of its class probabilities (halved: 1 for two that have no
    class in common), the L1 distance of its boxes, and their generalized IoU; the assignment with
    the least sum is taken (Hungarian).

    Args:
        student (Tensor): Logits (N, C, Q).
        teacher (Tensor): Logits (N, C, P).
        student_boxes (Tensor): (N, 4, Q), (cx, cy, w, h) from 0 to 1.
        teacher_boxes (Tensor): (N, 4, P).
        use_sigmoid (bool): What activates the logits, else softmax.

    Returns:
        tuple[Tensor, Tensor]: Logits (N, C, min(Q, P)) of both sides, pair by pair.
    """
    pairs: List[Tuple[Tensor, Tensor]] = []
    with torch.no_grad():
        probabilities = [side.float().sigmoid() if use_sigmoid else side.float().softmax(1)
                         for side in (student, teacher)]
        for image in range(len(student)):
            p, q = (side[image].T for side in probabilities)
            a, b = (side[image].T.float() for side in (student_boxes, teacher_boxes))
            cost = (CLASS_COST * torch.cdist(p, q, p=1) / 2 + BOX_COST * torch.cdist(a, b, p=1) -
                    GIOU_COST * generalized_iou(a, b))
            rows, columns = linear_sum_assignment(cost.nan_to_num().cpu().numpy())
            pairs.append((torch.as_tensor(rows, device=student.device),
                          torch.as_tensor(columns, device=student.device)))
    return (torch.stack([side[:, rows] for side, (rows, _) in zip(student, pairs)]),
            torch.stack([side[:, columns] for side, (_, columns) in zip(teacher, pairs)]))


def generalized_iou(a: Tensor, b: Tensor) -> Tensor:
    """Generalized IoU of every box with every other, (Q, P), in [-1, 1].

    `Rezatofighi et al., 2019 <https://arxiv.org/abs/1902.09630>`_, algorithm 1.

    Args:
        a (Tensor): (Q, 4), (cx, cy, w, h).
        b (Tensor): (P, 4).
    """
    # Only mmdet's models predict sets with boxes.
    from mmdet.structures.bbox import bbox_cxcywh_to_xyxy, bbox_overlaps
    return bbox_overlaps(bbox_cxcywh_to_xyxy(a), bbox_cxcywh_to_xyxy(b), mode='giou')
