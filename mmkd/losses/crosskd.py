"""CrossKD: the student's head features are passed through the teacher's head (Wang et al., 2024).

:Paper: `CrossKD: Cross-Head Knowledge Distillation for Object Detection
    <https://arxiv.org/abs/2306.11369>`_, CVPR 2024, section 3.2, equations 4 to 7.
:Compares: what the teacher's head makes of a feature of the student's head with what it makes of
    its own: class logits and decoded boxes of RetinaNet, ATSS and FCOS, the centerness of ATSS, and
    the bins of GFL. The feature is the output of the third convolution of a tower, the second in
    FCOS, with its ReLU. Its channels are scaled to the mean and deviation of the teacher's, and
    negative values become 0. A head whose towers are not ``cls_convs`` and ``reg_convs`` is
    refused. Student and teacher need heads of one width.
:Defaults: by head, from the authors' configs. RetinaNet: classes 1, GIoU 1. ATSS: in addition
    centerness 1. GFL: classes 1, bins 4 with τ = 1. FCOS: classes 0.4, IoU 0.75, both divided by
    the sum of the centerness. Other heads are taken as RetinaNet. In towers of two convolutions, a
    choice of ours, the first is taken. ``--method crosskd+pkd`` compares all five levels of the
    neck by PKD, with the authors' weights: 6 for GFL, 2 for RetinaNet and FCOS, 1 for ATSS.
:Differs: 1. Number of positives: the positions with a named class, averaged over processes.
    mmdet's RetinaNet counts at least one for each image, and does not average. 2. Sum of the
    centerness: at least 1; the authors have 1e-6, with which a batch without objects has a huge
    loss. 3. Deviation of a map of one position in a batch of one: 0; the authors' is NaN.
    4. Feature: after the ReLU. The authors' code reads the convolution, before the ReLU, but mmcv's
    ReLU works in place and changes what was read, so both compute the same. For the feature before
    the ReLU, write ``through=dict(student='bbox_head.cls_convs.2.conv', teacher=...,
    rescale=True)``. 5. Student: the authors' RetinaNet student takes P6 from the output of its FPN
    (``on_output``), their teacher and baseline from its input; ``--method`` does not change the
    student.
:Published: GFL R50, R101 (44.9), 1x: 40.2 -> 43.7, with PKD 43.9 (authors' README);
    RetinaNet R50, R101 (38.9), 2x: 37.4 -> 39.7, with PKD 39.8 (authors' README);
    FCOS R50, R101 (40.8), 2x: 38.5 -> 41.1, with PKD 41.3 (authors' README);
    ATSS R50, R101 (41.5), 1x: 39.4 -> 41.8, with PKD 41.8 (authors' README)
"""
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from ..core.arguments import temperature
from ..core.table import LOSSES
from .base import DistillLoss
from .bckd import check_boxes, check_sigmoid, weight_of
from .boxes import TINY, aligned_giou, aligned_iou, as_rows
from .fast.gap import gap_cross_entropy
from .ld import check_bins, divergence_of_bins
from .logits import LogitLoss
from .method import Method


@LOSSES.register
class CrossKDLoss(LogitLoss):
    r"""Binary cross entropy of cross-head class scores with the teacher's, weighed by their gap.

    `CrossKD <https://arxiv.org/abs/2306.11369>`_, equation 6. It is meant for an entry with
    ``through``, where s are the logits that the teacher predicts from the student's feature. With
    :math:`p = \sigma(s)`, :math:`q = \sigma(t)` and the weight w of an anchor in the student's own
    loss:

    .. math:: \frac{1}{n} \sum_m w_m \sum_c |p_{m,c} - q_{m,c}| \, BCE(p_{m,c}, q_{m,c})

    Args:
        divide_by (str): n: 'positives', their number, or 'centerness', the sum of their centerness
            (FCOS). Defaults to 'positives'.
        use_sigmoid (bool, optional): True to compare the columns of a softmax head as binary
            scores. Defaults to None: the activation of the student's head, which must be sigmoid.
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Raises:
        ValueError: If ``divide_by`` is unknown; when called, if the head is activated by softmax,
            or has no centerness to divide by.

    Example:
        >>> student, teacher = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
        >>> loss = CrossKDLoss()(student, teacher, label_weights=torch.ones(1, 4, 4),
        ...                      num_positives=torch.tensor(2.))
        >>> print(f'{loss:.4f}')
        3.8438
    """

    def __init__(self, divide_by: str = 'positives', use_sigmoid: Optional[bool] = None,
                 loss_weight: float = 1.0) -> None:
        super().__init__(use_sigmoid=use_sigmoid, loss_weight=loss_weight)
        self.divide_by = _divisor(divide_by)

    def compare(self, student: Tensor, teacher: Tensor,  # type: ignore[override]
                weight: Optional[Tensor] = None, *, label_weights: Tensor, num_positives: Tensor,
                centerness_sum: Optional[Tensor] = None) -> Tensor:
        check_sigmoid(type(self).__name__, self.use_sigmoid)
        count = _count(self, num_positives, centerness_sum)
        return gap_cross_entropy(student, teacher,
                                 weight_of(student, label_weights, weight)) / count


@LOSSES.register
class CrossKDBoxLoss(DistillLoss):
    r"""IoU loss of cross-head boxes with the teacher's, weighed by the teacher's class score.

    `CrossKD <https://arxiv.org/abs/2306.11369>`_, equation 7, with the weights of the authors'
    code. With boxes B in pixels, and the teacher's scores q:

    .. math:: \frac{1}{n} \sum_{m: w_m > 0} \max_c q_{m,c} \, D(B^S_m, B^T_m)

    where D is :math:`1 - GIoU` or :math:`-\log IoU`, and n as in :class:`CrossKDLoss`.

    Args:
        overlap (str): 'giou' or 'iou'. Defaults to 'giou'.
        divide_by (str): 'positives' or 'centerness'. Defaults to 'positives'.
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Raises:
        ValueError: If an argument is unknown; when called, if a box does not have four columns, or
            the head has no centerness to divide by.

    Example:
        >>> boxes = torch.tensor([0., 0., 8., 8.]).view(1, 4, 1, 1)
        >>> loss = CrossKDBoxLoss()(boxes, boxes + 4, label_weights=torch.ones(1, 1, 1),
        ...                         num_positives=torch.tensor(1.),
        ...                         teacher_also=[torch.zeros(1, 3, 1, 1)])
        >>> print(f'{loss:.4f}')
        0.5397
    """

    also = ('cls', )

    def __init__(self, overlap: str = 'giou', divide_by: str = 'positives',
                 loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        if overlap not in ('giou', 'iou'):
            raise ValueError(f"`overlap` must be 'giou' or 'iou', but got {overlap!r}; write one "
                             'of the two')
        self.overlap, self.divide_by = overlap, _divisor(divide_by)

    def compare(self, student: Tensor, teacher: Tensor, weight: Optional[Tensor] = None, *,
                label_weights: Tensor, num_positives: Tensor, teacher_also: List[Tensor],
                centerness_sum: Optional[Tensor] = None,
                also_sigmoid: Optional[Sequence[Optional[bool]]] = None) -> Tensor:
        check_boxes(type(self).__name__, student)
        check_sigmoid(type(self).__name__, also_sigmoid[0] if also_sigmoid else None)
        count = _count(self, num_positives, centerness_sum)
        score = scores(teacher_also[0], label_weights, student.dtype)
        both = as_rows(student), as_rows(teacher)
        error = 1 - aligned_giou(*both) if self.overlap == 'giou' else (
            -aligned_iou(*both).clamp(min=TINY).log())
        return (error * (score if weight is None else score * weight)).sum() / count


@LOSSES.register
class CrossKDBinsLoss(DistillLoss):
    r"""Divergence of cross-head distributions of distances (GFL), weighed by the teacher's score.

    `CrossKD <https://arxiv.org/abs/2306.11369>`_, equation 7, with the weights of the authors'
    code. Over the positions of all levels with a label weight, in this process:

    .. math:: \frac{\sum_m \max_c q_{m,c} \, \tau^2 \frac{1}{4} \sum_{e=1}^4
        KL(softmax(t_{m,e} / \tau) \,\|\, softmax(s_{m,e} / \tau))}{\sum_m \max_c q_{m,c}}

    Args:
        tau (float): τ, greater than 0. Defaults to 1.0.
        loss_weight (float): Factor of the result. Defaults to 4.0.

    Raises:
        ValueError: When called, if the boxes are not distributions.

    Example:
        >>> bins = torch.zeros(1, 4 * 17, 2, 2)
        >>> CrossKDBinsLoss()(bins, bins, label_weights=torch.ones(1, 2, 2),
        ...                   teacher_also=[torch.zeros(1, 3, 2, 2)])
        tensor(0.)
    """

    also = ('cls', )
    levels = 'all'

    def __init__(self, tau: float = 1.0, loss_weight: float = 4.0) -> None:
        super().__init__(loss_weight)
        self.tau = temperature(tau)

    def compare(self, student: List[Tensor], teacher: List[Tensor], *,
                label_weights: List[Tensor], teacher_also: List[List[Tensor]]) -> Tensor:
        check_bins(type(self).__name__, student[0])
        each = [scores(logits, own, s.dtype)
                for s, (logits, ), own in zip(student, teacher_also, label_weights)]
        errors = [(score * divergence_of_bins(s, t, self.tau)).sum() / 4
                  for s, t, score in zip(student, teacher, each)]
        total = torch.stack([score.sum() for score in each]).sum()
        return torch.stack(errors).sum() / total.clamp(min=TINY)


@LOSSES.register
class CrossKDCenternessLoss(DistillLoss):
    r"""Binary cross entropy of cross-head centerness with the teacher's, at positives (ATSS).

    .. math:: \frac{1}{n} \sum_{m \in P} BCE(\sigma(s_m), \sigma(t_m))

    over the positives P of the student's own loss, n of them.

    Args:
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Example:
        >>> student, teacher = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
        >>> CrossKDCenternessLoss()(student, teacher, labels=torch.tensor([[[0, 3], [3, 3]]]),
        ...                         num_positives=torch.tensor(1.),
        ...                         teacher_also=[torch.zeros(1, 3, 2, 2)])
        tensor(0.6931)
    """

    also = ('cls', )

    def compare(self, student: Tensor, teacher: Tensor, weight: Optional[Tensor] = None, *,
                labels: Tensor, num_positives: Tensor, teacher_also: List[Tensor]) -> Tensor:
        is_positive = ((labels >= 0) & (labels < teacher_also[0].shape[1])).to(student.dtype)
        own = is_positive if weight is None else is_positive * weight
        return binary_cross_entropy_with_logits(student[:, 0], teacher[:, 0].sigmoid(), own,
                                                reduction='sum') / num_positives


def scores(logits: Tensor, label_weights: Tensor, dtype: torch.dtype) -> Tensor:
    """The largest class score of each position, (N, H, W); 0 where the label weight is 0."""
    found = logits.detach().to(dtype).amax(1).sigmoid()
    return found.masked_fill(label_weights == 0, 0)


def _divisor(written: str) -> str:
    if written not in ('positives', 'centerness'):
        raise ValueError(f"`divide_by` must be 'positives' or 'centerness', but got {written!r}; "
                         'write one of the two')
    return written


def _count(loss: Any, num_positives: Tensor, centerness_sum: Optional[Tensor]) -> Tensor:
    if loss.divide_by == 'positives':
        return num_positives
    if centerness_sum is None:
        raise ValueError(f"{type(loss).__name__} has divide_by='centerness', but the head of the "
                         "student has no centerness; write divide_by='positives'")
    return centerness_sum


def _through(branch: str, number: int) -> Tuple[Dict[str, Any], ...]:
    """A convolution of a tower with its ReLU. In a tower of two convolutions it is the first."""
    paths = [f'bbox_head.{branch}_convs.{one}' for one in (number, 0)]
    return tuple(dict(student=path, teacher=path, rescale='relu') for path in paths)


def _classes(number: int = 2, **more: Any) -> Dict[str, Any]:
    return dict(type='mmkd.CrossKDLoss', on='cls', through=_through('cls', number), **more)


def _boxes(number: int = 2, **more: Any) -> Dict[str, Any]:
    return dict(type='mmkd.CrossKDBoxLoss', on='boxes', through=_through('reg', number),
                name='loss_boxes_crosskd', **more)


def _pkd(loss_weight: float) -> Tuple[Dict[str, Any], ...]:
    """PKD in addition to CrossKD, on all levels of the neck."""
    return (dict(type='mmkd.PKDLoss', on='neck', loss_weight=loss_weight), )


METHOD = Method(
    'crosskd', joined=dict(pkd={
        'GFLHead': _pkd(6.), 'ATSSHead': _pkd(1.), 'dense': _pkd(2.)}),
    dense=[_classes(), _boxes()],
    ATSSHead=[_classes(), _boxes(),
              dict(type='mmkd.CrossKDCenternessLoss', on='centerness', if_there=True,
                   through=_through('reg', 2), name='loss_centerness_crosskd')],
    GFLHead=[_classes(), dict(type='mmkd.CrossKDBinsLoss', on='reg', through=_through('reg', 2),
                              name='loss_reg_crosskd')],
    FCOSHead=[_classes(1, loss_weight=0.4, divide_by='centerness'),
              _boxes(1, loss_weight=0.75, overlap='iou', divide_by='centerness')])
