"""AT: where the features are active, whatever the channel (Zagoruyko and Komodakis, 2017).

:Paper: `Paying More Attention to Attention <https://arxiv.org/abs/1612.03928>`_, ICLR 2017, section
    3.1, equation 2.
:Compares: segmentors: the features before the classifier, as in the comparison of CIRKD's authors.
    Others: all levels of the backbone, as the authors do with the stages of a ResNet. Channels may
    differ.
:Defaults: weight 10000 for segmentors, from CIRKD's scripts, which add KD of the logits with weight
    1 (``--method at+kd``). Others: 1000, from the authors' README for classifiers.
:Differs: nothing known from the authors' code, which has the mean of squares where the paper has a
    sum of norms and the factor 1/2. Of maps of different sizes, the teacher's is interpolated to
    the student's size; the authors' code has one size.
:Published: ImageNet classifiers, ResNet-18, ResNet-34, top-1 error: 30.4 -> 29.3 (authors). Nothing
    known for detectors and segmentors on the standard pairs.
"""
from typing import FrozenSet

from torch import Tensor
from torch.nn.functional import normalize

from ..core.table import LOSSES
from .base import DistillLoss
from .fast.squares import sum_of_squares
from .method import Method


@LOSSES.register
class ATLoss(DistillLoss):
    r"""Mean squared difference of normalized attention maps.

    `Paying More Attention to Attention <https://arxiv.org/abs/1612.03928>`_, section 3.1. The
    attention of an image is the mean of the squared channels at each of its H·W positions, divided
    by the length of this vector:

    .. math::
        L = \frac{1}{N H W} \sum_{n,i} (\hat a^S_{n,i} - \hat a^T_{n,i})^2, \quad
        \hat a_n = \frac{a_n}{\lVert a_n \rVert_2}, \quad
        a_{n,i} = \frac{1}{C} \sum_c F_{n,c,i}^2

    The sign of a channel and the scale of an image have no influence. The squares of a map add up
    to 1, so the mean falls with the number of positions; larger maps need a larger weight.

    Args:
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Raises:
        ValueError: When called, if the input is not (N, C, H, W).

    Example:
        >>> import torch
        >>> student, teacher = torch.zeros(1, 2, 1, 2), torch.zeros(1, 3, 1, 2)
        >>> student[..., 0], teacher[..., 1] = 4., -2.  # active at different positions
        >>> ATLoss()(student, teacher)
        tensor(1.)
    """

    must_match: FrozenSet[str] = frozenset({'positions'})

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        if student.dim() != 4:
            raise ValueError(
                f'ATLoss compares maps (N, C, H, W), but got {tuple(student.shape)}; choose a '
                "point that has maps, such as 'backbone'")
        if student.numel() == 0:
            return student.sum() * 0
        # The normalized map does not depend on the factor 1 / C.
        own, other = (normalize(sum_of_squares(side).flatten(1)) for side in (student, teacher))
        return (own - other).square().mean()


METHOD = Method('at', [dict(type='mmkd.ATLoss', on='backbone', loss_weight=1000.)],
                segmentor=[dict(type='mmkd.ATLoss', on='features', loss_weight=10000.)])
