"""DETRDistill: predictions as further targets, features at objects, queries (Chang et al., 2023).

:Paper: `DETRDistill: A Universal Knowledge Distillation Framework for DETR-families
    <https://arxiv.org/abs/2211.10156>`_, ICCV 2023, section 3.
:Compares: query detectors: class logits and boxes of every decoder layer (DETRDistillLoss), the
    maps of the neck (DETRDistillFeatureLoss), and, where the student can be asked with the
    teacher's queries, classes and boxes of every layer for these queries with the ground truth
    (DETRDistillGroupLoss). Both detectors need as many decoder layers.
:Defaults: the authors' for Deformable DETR: 1 for classes, 5 for L1, 2 for GIoU, in the cost, too;
    100 best predictions; feature weight 1; gradients clipped at 0.1.
:Differs: the paper gives the teacher's queries the teacher's assignment, but the authors' code
    computes it and then assigns the student's own predictions (``assigned_by='student'``); their
    code runs the encoder again for these queries, with the same result except for dropout. If the
    student has more queries than the teacher, their code gives the rest a target of 80 in each
    class; here it has none. The default of their Distiller adds a contrastive loss between the
    decoders' outputs (weight 0.2), which the paper does not have; it is left out. Heads with
    softmax, which their code lacks, get the cross entropy. Sums are divided by the counts of each
    process.
:Published: Deformable DETR R50, R101 44.8, 50 epochs: 44.1 -> 46.6 (authors' repository);
    Deformable DETR R18, R101 44.8, 25 epochs: 40.0 -> 43.3 (authors' repository)
"""
from typing import Dict, List, Optional

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from ..core.arguments import finite_number
from ..core.table import LOSSES
from .boxes import generalized_iou
from .logits import LogitLoss
from .method import Method, Recipe
from .sets import TINY, assigned, centred, chosen, corners, focal


class _Assigned(LogitLoss):
    """What both losses of predictions share: weights and costs of classes and boxes."""

    must_match = frozenset({'channels'})
    pairs_queries = False
    also = ('reg', )

    def __init__(self, cls_weight: float, l1_weight: float, giou_weight: float,
                 use_sigmoid: Optional[bool], loss_weight: float) -> None:
        super().__init__(1., use_sigmoid, loss_weight)
        self.cls_weight = finite_number('cls_weight', cls_weight, least=0)
        self.l1_weight = finite_number('l1_weight', l1_weight, least=0)
        self.giou_weight = finite_number('giou_weight', giou_weight, least=0)


@LOSSES.register
class DETRDistillLoss(_Assigned):
    r"""The teacher's predictions as targets of the student's, one to one.

    `DETRDistill <https://arxiv.org/abs/2211.10156>`_, section 3.1, with the authors' code for
    Deformable DETR. In each image the student's predictions are assigned to the teacher's, of which
    :math:`p^T` are the probabilities and :math:`b^T` the boxes, ended at the edges of the image, by
    the smallest sum of

    .. math:: \lambda_{cls} BCE(p^S_i, p^T_j) + \lambda_{L1} |b^S_i - b^T_j|_1 -
        \lambda_{GIoU} GIoU(b^S_i, b^T_j)

    The loss is the same over the K pairs σ of the batch, with 1 - GIoU, divided by K. BCE is the
    sum over the classes of the binary cross entropy with soft targets; with softmax, the cross
    entropy. As its minimum is the teacher's entropy, the loss does not become 0. It returns the
    parts 'cls', 'l1' and 'giou'.

    Args:
        cls_weight (float): λ of the classes. Defaults to 1.0.
        l1_weight (float): λ of the L1 distance of boxes in parts of the image. Defaults to 5.0.
        giou_weight (float): λ of the generalized IoU. Defaults to 2.0.
        use_sigmoid (bool, optional): See :class:`mmkd.losses.LogitLoss`.
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Raises:
        ImportError: When called without scipy.
        ValueError: If a weight is negative.

    Example:
        >>> logits = torch.tensor([[[-9., 9.]]])
        >>> boxes = torch.tensor([[[.2, .7], [.2, .7], [.1, .1], [.1, .1]]])
        >>> parts = DETRDistillLoss(use_sigmoid=True)(
        ...     logits, logits.flip(2), student_also=[boxes], teacher_also=[boxes.flip(2)])
        >>> {name: round(part.item(), 3) for name, part in parts.items()}
        {'cls': 0.001, 'l1': 0.0, 'giou': 0.0}
    """

    def __init__(self, cls_weight: float = 1.0, l1_weight: float = 5.0, giou_weight: float = 2.0,
                 use_sigmoid: Optional[bool] = None, loss_weight: float = 1.0) -> None:
        super().__init__(cls_weight, l1_weight, giou_weight, use_sigmoid, loss_weight)

    def compare(self, student: Tensor, teacher: Tensor, *,  # type: ignore[override]
                student_also: List[Tensor], teacher_also: List[Tensor]) -> Dict[str, Tensor]:
        mine, theirs = (one[0].transpose(1, 2).to(student.dtype)
                        for one in (student_also, teacher_also))
        student, teacher = student.transpose(1, 2), teacher.transpose(1, 2)
        targets = teacher.sigmoid() if self.use_sigmoid else teacher.softmax(2)
        theirs = centred(corners(theirs.detach()).clamp(0, 1))
        with torch.no_grad():
            costs = self.cls_weight * _cost_of_targets(student, targets, bool(
                self.use_sigmoid)) + _box_cost(self, mine, theirs)
        pairs = assigned(list(costs))
        if not pairs:
            zero = (student.sum() + mine.sum()) * 0
            return dict(cls=zero, l1=zero, giou=zero)
        rows, columns = torch.stack(pairs).unbind(1)
        student, mine = chosen(student, rows), chosen(mine, rows)
        targets, theirs = chosen(targets, columns), chosen(theirs, columns)
        count = max(rows.numel(), 1)
        each = binary_cross_entropy_with_logits(student, targets, reduction='none') if (
            self.use_sigmoid) else -targets * student.log_softmax(2)
        return dict(cls=self.cls_weight * each.sum() / count,
                    **_box_parts(self, mine, theirs, count))


@LOSSES.register
class DETRDistillGroupLoss(_Assigned):
    r"""The student's predictions for the teacher's queries, with the teacher's objects as labels.

    `DETRDistill <https://arxiv.org/abs/2211.10156>`_, section 3.3, query-prior assignment. It needs
    ``queries='teacher'``. The teacher's predictions are assigned to the ground truth by DETR's cost
    (focal or softmax probability of the class, L1 and GIoU), and the student learns, for the same
    queries, the class and the box of the object that the teacher's query was assigned to, by the
    losses of Deformable DETR (focal loss) or DETR (cross entropy, background with weight 0.1). It
    returns the parts 'cls', 'l1' and 'giou', divided by the number of objects; 'l1' and 'giou' are
    0 in a batch without objects.

    Args:
        cls_weight (float, optional): Weight of the classes. Defaults to None: 2 with sigmoid, 1
            with softmax.
        l1_weight (float): Weight of the L1 distance of boxes in parts of the image. Defaults to
            5.0.
        giou_weight (float): Weight of the generalized IoU. Defaults to 2.0.
        assigned_by (str): Whose predictions are assigned to the ground truth: 'teacher', as in the
            paper, or 'student', as in the authors' code. Defaults to 'teacher'.
        use_sigmoid (bool, optional): See :class:`mmkd.losses.LogitLoss`.
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Raises:
        ImportError: When called without scipy.
        ValueError: If a weight is negative or ``assigned_by`` unknown.

    Example:
        >>> logits, boxes = torch.zeros(2, 1, 3, 5), torch.full((2, 1, 4, 5), 0.5)
        >>> parts = DETRDistillGroupLoss(use_sigmoid=True)(
        ...     *logits, student_also=[boxes[0]], teacher_also=[boxes[1]],
        ...     boxes=[torch.tensor([[2., 2., 6., 6.]])], box_labels=[torch.tensor([1])],
        ...     image_sizes=torch.tensor([[8, 8]]))
        >>> round(parts['l1'].item(), 4), round(parts['giou'].item(), 4)
        (0.0, 0.0)
    """

    def __init__(self, cls_weight: Optional[float] = None, l1_weight: float = 5.0,
                 giou_weight: float = 2.0, assigned_by: str = 'teacher',
                 use_sigmoid: Optional[bool] = None, loss_weight: float = 1.0) -> None:
        super().__init__(1. if cls_weight is None else cls_weight, l1_weight, giou_weight,
                         use_sigmoid, loss_weight)
        self.is_weighted = cls_weight is not None
        if assigned_by not in ('teacher', 'student'):
            raise ValueError(f"`assigned_by` must be 'teacher' or 'student', but got "
                             f'{assigned_by!r}; write one of these')
        self.assigned_by = assigned_by

    def compare(self, student: Tensor, teacher: Tensor, *,  # type: ignore[override]
                student_also: List[Tensor], teacher_also: List[Tensor], boxes: List[Tensor],
                box_labels: List[Tensor], image_sizes: Tensor) -> Dict[str, Tensor]:
        mine, theirs = (one[0].transpose(1, 2).to(student.dtype)
                        for one in (student_also, teacher_also))
        logits = student.transpose(1, 2)
        weight = self.cls_weight if self.is_weighted else 2. if self.use_sigmoid else 1.
        sides = dict(teacher=(teacher.transpose(1, 2), theirs), student=(logits, mine))
        found, where = (one.detach() for one in sides[self.assigned_by])
        truth = [centred(one.to(mine.dtype) / size.flip(0).repeat(2).to(mine.dtype))
                 for one, size in zip(boxes, image_sizes)]
        pairs = assigned([weight * _cost_of_labels(z, labels, bool(self.use_sigmoid)) +
                          _box_cost(self, b, t)
                          for z, b, labels, t in zip(found, where, box_labels, truth)])
        if not pairs:
            zero = (student.sum() + mine.sum()) * 0
            return dict(cls=zero, l1=zero, giou=zero)
        # One row for each object that has a query.
        images = torch.cat([torch.full_like(one[0], n) for n, one in enumerate(pairs)])
        rows = torch.cat([one[0] for one in pairs])
        labels, targets = (torch.cat([one[columns] for one, (_, columns) in zip(side, pairs)])
                           for side in (box_labels, truth))
        count = max(len(rows), 1)
        if self.use_sigmoid:
            aim = torch.zeros_like(logits)
            aim[images, rows, labels] = 1.
            value = focal(logits, aim).sum() / count
        else:
            background = logits.shape[2] - 1
            aims = labels.new_full(logits.shape[:2], background)
            aims[images, rows] = labels
            share = torch.where(aims == background, 0.1, 1.).to(logits.dtype)
            each = -logits.log_softmax(2).gather(2, aims.unsqueeze(2)).squeeze(2)
            value = (share * each).sum() / share.sum().clamp(min=1.)
        return dict(cls=weight * value, **_box_parts(self, mine[images, rows], targets, count))


def _box_cost(loss: _Assigned, boxes: Tensor, targets: Tensor) -> Tensor:
    """(..., Q, P) of (..., Q, 4) and (..., P, 4), (cx, cy, w, h) in parts of the image."""
    _, giou = generalized_iou(corners(boxes).unsqueeze(-2), corners(targets).unsqueeze(-3), TINY)
    return loss.l1_weight * torch.cdist(boxes, targets, p=1) - loss.giou_weight * giou


def _box_parts(loss: _Assigned, boxes: Tensor, targets: Tensor, count: int) -> Dict[str, Tensor]:
    """The parts 'l1' and 'giou' of pairs (..., 4), divided by ``count``."""
    _, giou = generalized_iou(corners(boxes), corners(targets), TINY)
    return dict(l1=loss.l1_weight * (boxes - targets).abs().sum() / count,
                giou=loss.giou_weight * (1 - giou).sum() / count)


def _cost_of_targets(student: Tensor, targets: Tensor, use_sigmoid: bool) -> Tensor:
    """(N, Q, P) of logits (N, Q, C) and probabilities (N, P, C): the cross entropy."""
    targets = targets.transpose(1, 2)
    if use_sigmoid:
        return -(logsigmoid(student) @ targets + logsigmoid(-student) @ (1 - targets))
    return -student.log_softmax(2) @ targets


def _cost_of_labels(logits: Tensor, labels: Tensor, use_sigmoid: bool) -> Tensor:
    """(Q, K) of logits (Q, C) and labels (K,): that of Deformable DETR or DETR."""
    if not use_sigmoid:
        return -logits.softmax(1)[:, labels]
    return (focal(logits, torch.ones_like(logits)) - focal(logits, torch.zeros_like(logits)))[
        :, labels]


METHOD = Method('detrdistill', query=Recipe([
    dict(type='mmkd.DETRDistillLoss', on='cls.all', also=['reg.all']),
    dict(type='mmkd.DETRDistillFeatureLoss', on='neck'),
    dict(type='mmkd.DETRDistillGroupLoss', on='cls.all', also=['reg.all'], queries='teacher',
         if_there=True)],
    {'optim_wrapper.clip_grad': dict(max_norm=0.1, norm_type=2)}))
