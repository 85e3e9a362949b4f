"""DIST+: correlation of features, over channels and over positions (Huang et al., 2025).

:Paper: DIST+: Knowledge Distillation From a Stronger Adaptive Teacher, IEEE TPAMI 2025: the
    relations of features, beside those of `DIST <https://arxiv.org/abs/2205.10536>`_. The authors'
    code is not public, and the adaptation of the teacher, the paper's other part, is not here.
:Compares: the class logits by DIST, and each level of the neck, or of the backbone where there is
    no neck; a 1x1 convolution on the student where the channels differ.
:Defaults: β = γ = τ = 1 of DIST, for classifiers its weight 2; weight 1 for both parts of features,
    which is our choice.
:Differs: our reading. The one implementation that is public, by others, adds the correlation of
    channels with a positive sign, which drives them apart, and takes the spatial one over the
    images of a batch; here both are 1 minus a correlation inside of an image.
:Published: no figure for detection or segmentation
"""
from typing import Any, Dict, List, Optional, Tuple, Union

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..core.arguments import finite_number
from ..core.table import LOSSES
from .base import DistillLoss
from .fast.closed_form import EPS, Moments
from .fast.eager import eager
from .fast.pieces import as_maps, logits_of, pieces
from .method import Method

LEAST = 3
"""Over fewer channels or positions Pearson's correlation is constant."""

FLAT = 1e-6
"""Standard deviation, as a part of the mean, up to which values are taken to be equal."""


@LOSSES.register
class DISTPlusLoss(DistillLoss):
    r"""One minus Pearson's correlation of features, over the channels of a position and over the
    positions of an image.

    Our reading of the relations of features in DIST+ (TPAMI 2025), beside :class:`DISTLoss` on
    class logits. With :math:`\rho` Pearson's correlation, 1e-8 added to the product of the norms,
    and F of N images, C channels and positions i:

    .. math:: \alpha \Big( 1 - \frac{1}{N HW} \sum_{n,i} \rho(F^S_{n,:,i}, F^T_{n,:,i}) \Big)
        + \beta \Big( 1 - \frac{1}{N} \sum_n \rho\big( \textstyle\sum_c F^S_{n,c,:},
        \sum_c F^T_{n,c,:} \big) \Big)

    It returns the parts 'channel' and 'spatial'. With ``weight``, the mean over positions and the
    moments over positions are weighted; an image without any weight is left out. A part over fewer
    than three channels or positions is constant, and left out. Where the student's values are all
    equal, the correlation is 0, without gradient. Vectors (N, C) have no positions,
    so the spatial part is 0.

    Args:
        channel_weight (float): α, weight of the correlation over channels. Defaults to 1.0.
        spatial_weight (float): β, weight of the correlation over positions. Defaults to 1.0.
        loss_weight (float): Factor of both parts. Defaults to 1.0.

    Raises:
        TypeError: If an argument is not a number.
        ValueError: If a weight is negative.

    Example:
        >>> features = torch.randn(2, 16, 4, 4)
        >>> parts = DISTPlusLoss()(2 * features + 1, features)
        >>> sorted(parts), all(value.abs() < 1e-5 for value in parts.values())
        (['channel', 'spatial'], True)
    """

    def __init__(self, channel_weight: float = 1.0, spatial_weight: float = 1.0,
                 loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.channel_weight = finite_number('channel_weight', channel_weight, least=0)
        self.spatial_weight = finite_number('spatial_weight', spatial_weight, least=0)

    def compare(self, student: Tensor, teacher: Tensor,
                weight: Optional[Tensor]) -> Dict[str, Tensor]:
        # 0, and part of the student's graph.
        parts = dict.fromkeys(('channel', 'spatial'), student[:0].sum())
        if student.numel() == 0:
            return parts
        is_map = student.dim() > 2
        s, t, w = as_maps(student, teacher, weight)
        if s.shape[1] >= LEAST:
            correlation: Tensor = eager(_OverChannels.apply)(s, t, w)
            parts['channel'] = self.channel_weight * one_minus_mean(correlation, w)
        if is_map and s.shape[2] >= LEAST:
            parts['spatial'] = self.spatial_weight * spatial(s.sum(1), t.sum(1), w)
        return parts

    def notes(self, channels: int) -> List[str]:
        if channels >= LEAST or not self.channel_weight:
            return []
        return [f'DISTPlusLoss leaves out the correlation over {channels} '
                f'channel{"s" * (channels > 1)}, which is constant']


def spatial(student: Tensor, teacher: Tensor, weight: Optional[Tensor]) -> Tensor:
    """One minus the mean over images of the correlation over positions.

    Args:
        student (Tensor): Float (N, L).
        teacher (Tensor): The same.
        weight (Tensor, optional): (N, L), 0 or more.
    """
    if weight is None:
        weight = torch.ones_like(teacher)
    total = weight.sum(1, keepdim=True)
    share, root = weight / torch.where(total > 0, total, 1.), weight.sqrt()
    sides = [torch.where(weight > 0, side, 0.) for side in (student, teacher)]
    means = [(share * side).sum(1, keepdim=True) for side in sides]
    s, t = (root * (side - mean) for side, mean in zip(sides, means))
    norm_s, norm_t = torch.norm(s, dim=1), torch.norm(t, dim=1)
    correlation = (s * t).sum(1) / (norm_s * norm_t + EPS)
    is_flat = is_constant(norm_s.square(), means[0].squeeze(1), total.squeeze(1))
    return one_minus_mean(torch.where(is_flat, 0., correlation),
                          (total > 0).squeeze(1).to(weight.dtype))


def is_constant(square: Tensor, mean: Tensor, count: Union[int, Tensor]) -> Tensor:
    """Whether a sum of squared deviations is rounding noise. The gradient, 1e8 times the usual
    where only EPS is left of the divisor, is then left out."""
    return square.detach() <= (FLAT * mean.detach()).square() * count


def one_minus_mean(values: Tensor, weight: Optional[Tensor]) -> Tensor:
    """One minus the weighted mean; 0 if all weights are 0."""
    if weight is None:
        return 1 - values.mean()
    total = weight.sum()
    return torch.where(total > 0, 1 - (weight * values).sum() / torch.where(total > 0, total, 1.),
                       0.)


class _OverChannels(torch.autograd.Function):
    """Correlation of the channels of each position, (N, L). Only the maps are saved for backward:
    the gradient follows from five moments of each position."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, weight: Optional[Tensor]) -> Tensor:
        count, _, length = student.shape
        moments = student.new_empty(5, count, length)
        for n, piece in pieces(student):
            s, t, _ = logits_of(student, teacher, weight, 1., n, piece)
            means = s.mean(0), t.mean(0)
            ds, dt = s - means[0], t - means[1]
            squares = ds.square().sum(0), dt.square().sum(0)
            torch.stack([*means, *squares, ds.mul_(dt).sum(0)], out=moments[:, n, piece])
        of_all = Moments(*moments)
        is_flat = is_constant(of_all.square_s, of_all.mean_s, student.shape[1])
        correlation, a, b = (one.masked_fill(is_flat, 0.) for one in of_all.correlation())
        ctx.save_for_backward(student, teacher, weight, of_all.mean_s, of_all.mean_t, a, b)
        return correlation

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tuple[Tensor, None, None]:
        student, teacher, weight, mean_s, mean_t, a, b = ctx.saved_tensors
        a, b = gradient * a, gradient * b
        c = -(a * mean_t + b * mean_s)
        found = torch.empty_like(student)
        for n, piece in pieces(student):
            s, t, _ = logits_of(student, teacher, weight, 1., n, piece)
            into = found[n, :, piece]
            torch.addcmul(c[n, piece], a[n, piece], t, out=into)
            into.addcmul_(b[n, piece], s)
        return found, None, None


METHOD = Method('dist_plus', [
    dict(type='mmkd.DISTLoss', on='cls'),
    dict(type='mmkd.DISTLoss', on='aux', loss_weight=0.4, if_there=True),
    dict(type='mmkd.DISTPlusLoss', on=('neck', 'backbone'))],
    classifier=[dict(type='mmkd.DISTLoss', on='cls', loss_weight=2.0),
                dict(type='mmkd.DISTPlusLoss', on='backbone')])
