"""KD-DETR: predictions of both decoders for the same queries (Wang et al., 2024).

:Paper: `KD-DETR: Knowledge Distillation for Detection Transformer with Consistent Distillation
    Points Sampling <https://arxiv.org/abs/2211.08071>`_, CVPR 2024, section 3.
:Compares: query detectors: class logits and boxes of the last decoder layer. Both networks are
    asked with the teacher's learned queries ("specific") and, in a second entry, with random ones
    that are drawn again in each step ("general"); predictions are paired by the number of the
    query. DETR, Conditional DETR, DAB-DETR and Deformable DETR, with a teacher of the same kind and
    width. Not two-stage Deformable DETR, DINO and DDQ, whose queries come from the encoder.
:Defaults: the weights 5 and 2 of L1 and GIoU are DETR's; 1 for the classes, temperature 1, the
    mean weighted by the teacher's confidence, as many random queries as the teacher has, from a
    normal distribution, and the last layer alone are our choice.
:Differs: the authors released no code, so nothing can be compared with it. For DINO the paper
    shares queries, too; mmkd does not. ``on='cls.all', also=['reg.all']`` compares every layer.
:Published: DAB-DETR R18, -, -: 36.2 -> 41.4 (paper); DAB-DETR R50, -, -: 42.2 -> 45.7 (paper)
"""
from typing import Dict, List, Optional

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ..core.arguments import finite_number
from ..core.table import LOSSES
from .boxes import generalized_iou
from .logits import LogitLoss
from .method import Method
from .sets import TINY, corners


@LOSSES.register
class KDDETRLoss(LogitLoss):
    r"""Classes and boxes of predictions for the same queries, weighted by the teacher's confidence.

    `KD-DETR <https://arxiv.org/abs/2211.08071>`_. With probabilities :math:`p_i`, at temperature τ
    in the divergence, boxes :math:`b_i` and the weight :math:`w_i = \max_c p^T_{i,c}`, the
    teacher's highest probability of a class other than background:

    .. math::
        L = \frac{1}{\sum_i w_i} \sum_i w_i \big[ \lambda_{cls} \tau^2 KL(p^T_i \| p^S_i) +
        \lambda_{L1} |b^T_i - b^S_i|_1 + \lambda_{GIoU} (1 - GIoU(b^T_i, b^S_i)) \big]

    The sums are over all queries of the batch. With sigmoid, KL is the sum over the classes of the
    divergences of Bernoulli distributions. It returns the parts 'cls', 'l1' and 'giou'.

    Args:
        cls_weight (float): λ of the classes. Defaults to 1.0.
        l1_weight (float): λ of the L1 distance of boxes in parts of the image. Defaults to 5.0.
        giou_weight (float): λ of the generalized IoU. Defaults to 2.0.
        tau (float): τ, temperature of the classes. Defaults to 1.0.
        use_sigmoid (bool, optional): See :class:`mmkd.losses.LogitLoss`. With softmax, the last
            column is the background.
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Raises:
        ValueError: If a weight is negative.

    Example:
        >>> logits, boxes = torch.zeros(2, 1, 3, 5), torch.full((2, 1, 4, 5), 0.5)
        >>> loss = KDDETRLoss(use_sigmoid=True)
        >>> parts = loss(*logits, student_also=[boxes[0]], teacher_also=[boxes[1]])
        >>> {name: part.item() for name, part in parts.items()}
        {'cls': 0.0, 'l1': 0.0, 'giou': 0.0}
    """

    also = ('reg', )

    def __init__(self, cls_weight: float = 1.0, l1_weight: float = 5.0, giou_weight: float = 2.0,
                 tau: float = 1.0, use_sigmoid: Optional[bool] = None,
                 loss_weight: float = 1.0) -> None:
        super().__init__(tau, use_sigmoid, loss_weight)
        self.cls_weight = finite_number('cls_weight', cls_weight, least=0)
        self.l1_weight = finite_number('l1_weight', l1_weight, least=0)
        self.giou_weight = finite_number('giou_weight', giou_weight, least=0)

    def compare(self, student: Tensor, teacher: Tensor,  # type: ignore[override]
                weight: Optional[Tensor] = None, *, student_also: List[Tensor],
                teacher_also: List[Tensor]) -> Dict[str, Tensor]:
        confidence = teacher.sigmoid() if self.use_sigmoid else teacher.softmax(1)[:, :-1]
        share = confidence.amax(1)
        if weight is not None:
            share = share * weight
        share = share / share.sum().clamp(min=1e-6)
        mine, theirs = (one[0].transpose(1, 2).to(student.dtype)
                        for one in (student_also, teacher_also))
        _, giou = generalized_iou(corners(mine), corners(theirs.detach()), TINY)
        each = dict(cls=self.cls_weight * self.divergence(student, teacher),
                    l1=self.l1_weight * (mine - theirs.detach()).abs().sum(2),
                    giou=self.giou_weight * (1 - giou))
        # A position of weight 0 may hold anything, also NaN.
        return {name: torch.where(share > 0, share * one, 0.).sum() for name, one in each.items()}

    def divergence(self, student: Tensor, teacher: Tensor) -> Tensor:
        """τ² times the divergence of each query, (N, Q)."""
        s, t = student / self.tau, teacher / self.tau
        if self.use_sigmoid:
            p = t.sigmoid()
            each = p * (logsigmoid(t) - logsigmoid(s)) + (1 - p) * (logsigmoid(-t) - logsigmoid(-s))
        else:
            each = t.softmax(1) * (t.log_softmax(1) - s.log_softmax(1))
        return self.tau**2 * each.sum(1)


METHOD = Method('kd_detr', query=[
    dict(type='mmkd.KDDETRLoss', on='cls', queries='teacher'),
    dict(type='mmkd.KDDETRLoss', on='cls', queries='random')])
