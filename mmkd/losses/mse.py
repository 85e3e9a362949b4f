"""MSE: mean squared error of features or logits, as hint or mimic (Romero et al., 2015).

:Paper: `FitNets: Hints for Thin Deep Nets <https://arxiv.org/abs/1412.6550>`_, ICLR 2015, section
    2.2.
:Compares: each level of the neck, or of the backbone where there is no neck, after a 1x1
    convolution on the student.
:Defaults: weight 1, the mean inside of a level, the sum over levels: the mimic term of DIST's
    authors. CIRKD's FitNet has weight 10 and a convolution without bias; FreeKD's config, weight 5.
:Differs: FitNets trains the student up to the hint in a stage of its own; this is one loss beside
    the others, as in DIST's code.
:Published: Faster R-CNN R50, Cascade Mask R-CNN X101-64x4d (45.6), 2x, with DIST: 38.4 -> 41.8
    (README of DIST); RetinaNet R50, RetinaNet X101-64x4d (41.0), 2x, with DIST: 37.4 -> 40.1
    (README of DIST)
"""
from typing import Optional

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from ..core.table import LOSSES
from .base import DistillLoss
from .method import Method


@LOSSES.register
class MSELoss(DistillLoss):
    r"""Mean squared error.

    :math:`\frac{1}{M C} \sum_m \sum_c (S_{m,c} - T_{m,c})^2` over M positions of all images and C
    channels, without normalisation. It is the hint loss of `FitNets
    <https://arxiv.org/abs/1412.6550>`_, section 2.2; on the neck, with a 1x1 convolution on the
    student, it is the feature imitation ("mimic") that the authors of DIST add for detectors.

    Args:
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Example:
        >>> MSELoss()(torch.ones(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)).item()
        1.0
    """

    def compare(self, student: Tensor, teacher: Tensor, weight: Optional[Tensor]) -> Tensor:
        if student.numel() == 0:
            return student.sum() * 0
        if weight is None:
            return mse_loss(student, teacher)
        weight = weight.unsqueeze(1)
        # Values at masked positions, even NaN, must not reach the sum.
        difference = torch.where(weight > 0, student - teacher, 0.)
        total = weight.sum() * student.shape[1]
        return (weight * difference.square()).sum() / total.clamp(min=torch.finfo(total.dtype).tiny)


METHOD = Method('mimic', [
    dict(type='mmkd.MSELoss', on=('neck', 'backbone'), connector='conv')],
    classifier=[dict(type='mmkd.MSELoss', on='backbone', connector='conv')], also='mse')
# Segmentors: point and weight of CIRKD's scripts, whose convolution has no bias. Others: a hint
# from the middle of the network, as in FitNets; the weight is our choice.
Method('fitnets', [dict(type='mmkd.MSELoss', on='backbone', levels=([-2], [-1]), connector='conv')],
       segmentor=[
           dict(type='mmkd.MSELoss', on='features', connector='conv', loss_weight=10.)])
