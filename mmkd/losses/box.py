"""Box imitation: smooth L1 between the box offsets of both heads (Huang et al., 2023).

:Paper: `Masked Distillation with Receptive Tokens <https://arxiv.org/abs/2205.14589>`_, ICLR 2023;
    not in the paper's equations, but in the configs of its code, and in those of `FreeKD
    <https://arxiv.org/abs/2311.12079>`_, CVPR 2024, beside the loss on features.
:Compares: the box offsets of RoI heads at all RoIs that the student sampled, positive or not; of a
    cascade teacher, those of its first stage. For dense heads with one coding of boxes, the offsets
    of all anchors, level by level; bins of distances (GFL) are refused.
:Defaults: β = 1 (that of mmdet), weight 1, mean over RoIs and coordinates: the authors' configs for
    Faster R-CNN and RetinaNet.
:Differs: nothing known. A cascade writes one box for all classes, so the authors' student of a
    cascade does, too: ``model.student.roi_head.bbox_head.reg_class_agnostic=True``, or the pair is
    refused. A head that writes one box for each class is compared in all of them, as by the
    authors, though a RoI trains only the box of its own class.
:Published: none of its own; together with MasKD, Faster R-CNN R50, Cascade Mask R-CNN X101-64x4d
    (45.6), 2x: 38.4 -> 42.7; Faster R-CNN R50, R101, 2x: 38.4 -> 41.0 (README of MasKD)
"""
from typing import Optional

import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from ..core.arguments import finite_number
from ..core.table import LOSSES
from .base import DistillLoss
from .method import Method


@LOSSES.register
class BoxImitationLoss(DistillLoss):
    r"""Smooth L1 between box offsets.

    The box term of the configs of `MasKD <https://arxiv.org/abs/2205.14589>`_ and `FreeKD
    <https://arxiv.org/abs/2311.12079>`_. With the difference d = S - T of an offset:

    .. math:: \frac{1}{M C} \sum_m \sum_c \begin{cases} d^2 / (2 \beta) & |d| < \beta \\
        |d| - \beta / 2 & \text{otherwise} \end{cases}

    M is the number of RoIs, or of positions of the batch; C is 4, times the number of classes in a
    head that writes one box for each class, and times the number of anchors in a dense head. All
    RoIs count, negative ones included. With ``weight``, the mean over M is weighted.

    Args:
        beta (float): Difference up to which the loss is quadratic, in units of the head's coded
            offsets; 0 for L1. Defaults to 1.0.
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Raises:
        TypeError: If an argument is not a number.
        ValueError: If ``beta`` is negative; when called, if a dense head predicts bins of
            distances instead of offsets.

    Example:
        >>> loss = BoxImitationLoss()
        >>> loss(torch.zeros(512, 4), torch.full((512, 4), 3.0))
        tensor(2.5000)
    """

    def __init__(self, beta: float = 1.0, loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.beta = finite_number('beta', beta, least=0)

    def compare(self, student: Tensor, teacher: Tensor, weight: Optional[Tensor] = None, *,
                priors: Optional[Tensor] = None) -> Tensor:
        if priors is not None and len(priors) and student.dim() == 4 and len(student):
            values = student[0].numel() / len(priors)
            if values not in (4, 5) and values % 4 != 2:  # 5 with an angle, 18 of 9 points
                raise ValueError(
                    f'BoxImitationLoss compares offsets, 4 for each of {len(priors)} anchors or '
                    f'points, but got {student[0].numel()} values, bins of distances as those of '
                    'GFL; use mmkd.LDLoss')
        if student.numel() == 0:
            return student.sum() * 0
        if weight is None:
            return smooth_l1_loss(student, teacher, beta=self.beta)
        weight = weight.unsqueeze(1)
        # Values at masked positions, even NaN, must not reach the sum.
        student, teacher = (torch.where(weight > 0, side, 0.) for side in (student, teacher))
        error = smooth_l1_loss(student, teacher, reduction='none', beta=self.beta)
        total = weight.sum() * student.shape[1]
        return (weight * error).sum() / total.clamp(min=torch.finfo(total.dtype).tiny)


METHOD = Method('box', dense=[dict(type='mmkd.BoxImitationLoss', on='reg')],
                roi=[dict(type='mmkd.BoxImitationLoss', on='reg')])
