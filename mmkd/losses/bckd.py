"""BCKD: class probabilities as binary scores, and boxes by their overlap (Yang et al., 2023).

:Paper: `Bridging Cross-task Protocol Inconsistency for Distillation in Dense Object Detection
    <https://arxiv.org/abs/2308.14286>`_, ICCV 2023, equations 4 to 9.
:Compares: the class logits and the decoded boxes of all anchors or points of a dense head that is
    activated by sigmoid; it needs the label weights and the number of positives. Boxes may be
    coded in another way by the teacher: they are compared in pixels.
:Defaults: class part 1, box part 4, GIoU, the values of the authors' configs for GFL.
:Differs: the authors' code sets both parts to 0 on a level that has no positive in the batch of a
    GPU; here every level counts, as in the paper. ``only_with_positives=True`` is the authors'.
    The number of positives is that of named labels, averaged over processes; mmdet's RetinaNet
    counts an image without positives as one, and does not average. The authors compute GIoU in
    units of the stride, which changes no value.
:Published: GFL R50, R101 (44.9), 1x: 40.1 -> 43.2 (authors' README); GFL R34, R101, 1x: 38.9 ->
    42.0 (authors' README); GFL R18, R101, 1x: 35.8 -> 38.6 (authors' README)
"""
from typing import List, Optional, Sequence

from torch import Tensor

from ..core.arguments import true_or_false
from ..core.table import LOSSES
from .base import DistillLoss
from .boxes import aligned_giou, as_rows
from .fast.gap import gap_cross_entropy, largest_gap
from .logits import LogitLoss
from .method import Method


@LOSSES.register
class BCKDLoss(LogitLoss):
    r"""Binary cross entropy with the teacher's score, weighed by the gap between the scores.

    `Bridging Cross-task Protocol Inconsistency <https://arxiv.org/abs/2308.14286>`_, section 3.2.
    With :math:`p = \sigma(s)`, :math:`q = \sigma(t)`, the weight w of an anchor in the student's
    own loss, and n positives:

    .. math:: \frac{1}{n} \sum_m w_m \sum_c |p_{m,c} - q_{m,c}| \, BCE(p_{m,c}, q_{m,c})

    Both factors have a gradient. Softmax heads are refused.

    Args:
        only_with_positives (bool): Whether a level without a positive is left out, as in the
            authors' code. Defaults to False.
        use_sigmoid (bool, optional): True to compare the columns of a softmax head as binary
            scores. Defaults to None: the activation of the student's head, which must be sigmoid.
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Raises:
        ValueError: When called, if the student's head is activated by softmax.

    Example:
        >>> import torch
        >>> student, teacher = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
        >>> BCKDLoss()(student, teacher, labels=torch.zeros(1, 4, 4).long(),
        ...            label_weights=torch.ones(1, 4, 4), num_positives=torch.tensor(2.))
        tensor(0.)
    """

    def __init__(self, only_with_positives: bool = False, use_sigmoid: Optional[bool] = None,
                 loss_weight: float = 1.0) -> None:
        super().__init__(use_sigmoid=use_sigmoid, loss_weight=loss_weight)
        self.only_with_positives = true_or_false('only_with_positives', only_with_positives)

    def compare(self, student: Tensor, teacher: Tensor,  # type: ignore[override]
                weight: Optional[Tensor] = None, *, labels: Tensor, label_weights: Tensor,
                num_positives: Tensor) -> Tensor:
        check_sigmoid(type(self).__name__, self.use_sigmoid)
        weight = weight_of(student, label_weights, weight)
        if self.only_with_positives:
            weight = weight * has_positive(labels, student.shape[1])
        return gap_cross_entropy(student, teacher, weight) / num_positives


@LOSSES.register
class BCKDBoxLoss(DistillLoss):
    r"""GIoU loss of decoded boxes, weighed by the gap between the class scores.

    `Bridging Cross-task Protocol Inconsistency <https://arxiv.org/abs/2308.14286>`_, section 3.3.
    With boxes B, and the other symbols as in :class:`BCKDLoss`:

    .. math:: \frac{1}{n} \sum_m w_m \, \max_c |p_{m,c} - q_{m,c}| \,
        \big( 1 - GIoU(B^S_m, B^T_m) \big)

    The gap has no gradient.

    Args:
        only_with_positives (bool): See :class:`BCKDLoss`. Defaults to False.
        loss_weight (float): Factor of the result. Defaults to 4.0.

    Raises:
        ValueError: When called, if a box does not have four columns, or the class logits of the
            student are activated by softmax.

    Example:
        >>> import torch
        >>> boxes = torch.tensor([0., 0., 8., 8.]).view(1, 4, 1, 1)
        >>> loss = BCKDBoxLoss()(
        ...     boxes, boxes + 4, labels=torch.zeros(1, 1, 1).long(),
        ...     label_weights=torch.ones(1, 1, 1), num_positives=torch.tensor(1.),
        ...     student_also=[torch.zeros(1, 3, 1, 1)], teacher_also=[torch.ones(1, 3, 1, 1)])
        >>> print(f'{loss:.4f}')
        0.9976
    """

    also = ('cls', )

    def __init__(self, only_with_positives: bool = False, loss_weight: float = 4.0) -> None:
        super().__init__(loss_weight)
        self.only_with_positives = true_or_false('only_with_positives', only_with_positives)

    def compare(self, student: Tensor, teacher: Tensor, weight: Optional[Tensor] = None, *,
                labels: Tensor, label_weights: Tensor, num_positives: Tensor,
                student_also: List[Tensor], teacher_also: List[Tensor],
                also_sigmoid: Optional[Sequence[Optional[bool]]] = None) -> Tensor:
        check_boxes(type(self).__name__, student)
        check_sigmoid(type(self).__name__, also_sigmoid[0] if also_sigmoid else None)
        gap = largest_gap(student_also[0].to(student.dtype), teacher_also[0].to(student.dtype))
        weight = gap * weight_of(student, label_weights, weight)
        if self.only_with_positives:
            weight = weight * has_positive(labels, student_also[0].shape[1])
        error = 1 - aligned_giou(as_rows(student), as_rows(teacher))
        return (weight * error).sum() / num_positives


def weight_of(like: Tensor, label_weights: Tensor, weight: Optional[Tensor]) -> Tensor:
    """Weights of the positions in the student's own loss, times those of a region."""
    own = label_weights.to(like.dtype)
    return own if weight is None else own * weight


def has_positive(labels: Tensor, classes: int) -> Tensor:
    """1 if a label is that of a named class, else 0: a scalar on the device."""
    return ((labels >= 0) & (labels < classes)).any()


def check_sigmoid(name: str, use_sigmoid: Optional[bool]) -> None:
    """Refuse softmax.

    Raises:
        ValueError: If it is False.
    """
    if use_sigmoid is False:
        raise ValueError(f"{name} needs a sigmoid for each class, but the student's head has "
                         "softmax over the classes; use mmkd.DISTLoss or mmkd.KDLoss at 'cls'")


def check_boxes(name: str, boxes: Tensor) -> None:
    """Refuse tensors that are not boxes.

    Raises:
        ValueError: If they have not four columns.
    """
    if boxes.shape[1] != 4:
        raise ValueError(f'{name} compares boxes (x1, y1, x2, y2), but got {boxes.shape[1]} '
                         "columns per box; compare 'boxes', which are decoded")


METHOD = Method('bckd', dense=[
    dict(type='mmkd.BCKDLoss', on='cls'),
    dict(type='mmkd.BCKDBoxLoss', on='boxes', name='loss_boxes_bckd')])
