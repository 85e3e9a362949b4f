"""CWD: KL divergence of each channel's distribution over positions (Shu et al., 2021).

:Paper: `Channel-wise Knowledge Distillation for Dense Prediction
    <https://arxiv.org/abs/2011.13256>`_, ICCV 2021, section 3.2.
:Compares: the class logits of dense heads, level by level, and of segmentors. The logits of RoIs
    and of queries have no positions: there the neck is compared, as in mmrazor 1.x's config for
    GFL, or the backbone.
:Defaults: τ = 4, weight 3, the authors' for the logits of segmentors; τ = 1, weight 5 for dense
    heads, mmrazor 0.x's for the logits of GFL; τ = 1, weight 10 for a neck, mmrazor 1.x's for GFL
    and Faster R-CNN, and our choice for the other families. For the features of segmentors the
    paper has weight 50.
:Differs: the logarithm is that of a softmax; the authors and CIRKD take the logarithm of
    probabilities, which may underflow. CIRKD divides the term of features by the student's number
    of channels, which is half of the teacher's. mmrazor 1.x's config `cwd_cls_head_gfl` distils the
    neck, not the class logits.
:Published: GFL R50, GFL R101 ms-2x, 1x, logits: 40.2 -> 41.9 (README of mmrazor); PSPNet R18,
    PSPNet R101, 80k: 74.87 -> 75.54 (README of mmrazor); PSPNet R18, DeepLabV3 R101 (78.07), 40k:
    72.55 -> 74.36 (from memory); DeepLabV3 R18, DeepLabV3 R101 (78.07), 40k: 74.21 -> 75.55 (README
    of CIRKD)
"""
from functools import cache
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import log_softmax

from ..core.arguments import temperature
from ..core.table import LOSSES
from .base import DistillLoss
from .fast import channelwise, fused
from .fast.eager import eager
from .fast.pieces import pieces
from .method import Method

NOWHERE = -1e30
"""Logit of a position of weight 0: its probability is 0, and all values remain finite."""


@LOSSES.register
class CWDLoss(DistillLoss):
    r"""Kullback-Leibler divergence of the distribution of each channel over the positions.

    `Channel-wise Knowledge Distillation for Dense Prediction <https://arxiv.org/abs/2011.13256>`_,
    section 3.2. With :math:`p_{n,c} = softmax(x_{n,c} / \tau)` over the H·W positions of a channel:

    .. math:: \frac{\tau^2}{N C} \sum_{n,c} \sum_i p^T_{n,c,i} (\log p^T_{n,c,i} - \log p^S_{n,c,i})

    For logits of segmentors the authors use τ = 4 and weight 3; for logits of dense detectors and
    for features of a neck, τ = 1 and weights of 5 and 10 are common. The loss is invariant to a
    constant added to a channel. A position of weight w counts as w equal positions; positions of
    weight 0 are left out of the softmax.

    The input must have two dimensions of positions: feature maps, class logits, and 'mask', of
    RoIs (N is then the number of RoIs) or of the paired queries of a mask transformer (a channel
    is then the mask of one query). For a map of one position the loss is 0.

    Args:
        tau (float): Temperature, greater than 0. Defaults to 4.0.
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Raises:
        ValueError: If ``tau`` is not greater than 0; in a call, if the input is not (N, C, H, W),
            but for instance vectors (N, C) or class logits of queries (N, C, Q).

    Example:
        >>> logits = torch.randn(2, 3, 4, 4)
        >>> CWDLoss(tau=1.0)(logits + 5, logits).item() < 1e-6  # a constant does not count
        True
    """

    def __init__(self, tau: float = 4.0, loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.tau = temperature(tau)

    def compare(self, student: Tensor, teacher: Tensor, weight: Optional[Tensor]) -> Tensor:
        if student.dim() != 4:  # class logits of queries, (N, C, Q), have no positions
            raise ValueError(
                f'CWDLoss compares maps (N, C, H, W), but got {tuple(student.shape)}; use '
                "mmkd.KDLoss or mmkd.DISTLoss here, or a point that has maps, such as 'neck'")
        if student.numel() == 0:
            return student.sum() * 0
        weight = None if weight is None else weight.flatten(1)
        result: Tensor = eager(_CWD.apply)(student.flatten(2), teacher.flatten(2), weight,
                                           self.tau)
        return self.tau**2 * result


def divergence(student: Tensor, teacher: Tensor, weight: Optional[Tensor] = None,
               tau: float = 1.) -> Tensor:
    """Kullback-Leibler divergence of each channel, computed by autograd.

    Args:
        student (Tensor): Float (..., C, L).
        teacher (Tensor): The same.
        weight (Tensor, optional): Float (L,), 0 or more.
        tau (float): Temperature. Defaults to 1.

    Returns:
        Tensor: (..., C).
    """
    log_p_student = log_softmax(logits_of(student, weight, tau), -1)
    log_p_teacher = log_softmax(logits_of(teacher, weight, tau), -1)
    return (log_p_teacher.exp() * (log_p_teacher - log_p_student)).sum(-1)


def logits_of(x: Tensor, weight: Optional[Tensor], tau: float) -> Tensor:
    """Logits of the positions, for a softmax over the last dimension."""
    x = x if tau == 1 else x / tau
    return x if weight is None else torch.where(weight > 0, x + weight.log(), NOWHERE)


class _CWD(torch.autograd.Function):
    """Saves only the maps for backward: the gradient is the difference of the probabilities."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, weight: Optional[Tensor],
                tau: float) -> Tensor:
        is_fused = fused.fits(student, teacher, weight) and is_believed(
            student.device, weight is not None)
        ctx.form = FUSED if is_fused else PIECEWISE
        total, norms = ctx.form.measure(student, teacher, weight, tau)
        # An image without a position of positive weight adds 0, and is left out of the mean.
        images = len(student) if weight is None else weight.any(1).sum().clamp(min=1)
        count = images * student.shape[1]
        ctx.save_for_backward(student, teacher, weight, norms)
        ctx.settings = tau, count
        return (total / count).to(student.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        student, teacher, weight, norms = ctx.saved_tensors
        tau, count = ctx.settings
        found = ctx.form.differ(student, teacher, weight, tau, norms, gradient / (tau * count))
        return found, None, None, None


class Form(NamedTuple):
    """An implementation of value and gradient."""
    measure: Callable[..., Tuple[Tensor, Optional[Tensor]]]
    """(student, teacher, weight, τ) -> (sum over all channels in float64, tensor saved for
    ``differ`` or None)."""
    differ: Callable[..., Tensor]
    """(student, teacher, weight, τ, saved tensor, factor) -> gradient."""


def measure(student: Tensor, teacher: Tensor, weight: Optional[Tensor],
            tau: float) -> Tuple[Tensor, None]:
    """The sum, computed in chunks."""
    total = student.new_zeros((), dtype=torch.float64)
    for n, channels, w in channels_of(student, weight):
        total += divergence(student[n, channels], teacher[n, channels], w, tau).sum()
    return total, None


def differ(student: Tensor, teacher: Tensor, weight: Optional[Tensor], tau: float, norms: None,
           scale: Tensor) -> Tensor:
    """The gradient, computed in chunks."""
    found = torch.empty_like(student)
    for n, channels, w in channels_of(student, weight):
        p_student, p_teacher = (torch.softmax(logits_of(side[n, channels], w, tau), 1)
                                for side in (student, teacher))
        torch.mul(p_student.sub_(p_teacher), scale, out=found[n, channels])
    return found


PIECEWISE = Form(measure, differ)
FUSED = Form(channelwise.measure, channelwise.differ)


@cache
def is_believed(device: torch.device, has_weight: bool) -> bool:
    """Whether the kernels agree with the computation in chunks. It is tested once, on random
    numbers: channels of more than one span, and some positions of weight 0."""
    generator = torch.Generator().manual_seed(0)
    student, teacher, weight = (torch.randn(shape, generator=generator).to(device)
                                for shape in ((2, 3, 5000), (2, 3, 5000), (2, 5000)))
    asked = student, teacher, weight.relu() if has_weight else None, 2.

    def said(form: Form) -> List[Tensor]:
        total, norms = form.measure(*asked)
        scale = torch.tensor(300., device=device)
        return [total, form.differ(*asked, norms, scale)]

    return fused.agree(f'CWD on {device}', lambda: said(PIECEWISE), lambda: said(FUSED))


def channels_of(maps: Tensor,
                weight: Optional[Tensor]) -> Iterator[Tuple[int, slice, Optional[Tensor]]]:
    """Yield per image slices of the channels of (N, C, L) and the weights of the positions."""
    for n, channels in pieces(maps.transpose(1, 2)):
        yield n, channels, None if weight is None else weight[n]


METHOD = Method(
    'cwd', [dict(type='mmkd.CWDLoss', on=('neck', 'backbone'), tau=1., loss_weight=10.)],
    dense=[dict(type='mmkd.CWDLoss', on='cls', tau=1., loss_weight=5.)],
    segmentor=[dict(type='mmkd.CWDLoss', on='cls', tau=4., loss_weight=3.)])
