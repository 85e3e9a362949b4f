"""KD: KL divergence of softened class probabilities (Hinton et al., 2015).

:Paper: `Distilling the Knowledge in a Neural Network <https://arxiv.org/abs/1503.02531>`_, NIPS
    workshop 2014, section 2.
:Compares: class logits: of the anchors of a dense head, where each class is a Bernoulli variable,
    of RoIs, of paired queries, of pixels, of images; and of the auxiliary head of a segmentor.
:Defaults: τ = 1, weight 1, 0.4 on the auxiliary head. The weights of segmentors are those of DIST's
    authors, who have no term on the auxiliary head in KD; detectors have none of the authors.
    Classifiers: τ = 4 and weight 1, with which DIST's authors compare on ImageNet.
:Differs: the mean is taken over all positions, as in the segmentation code of DIST and CIRKD.
    mmrazor's `KLDivergence` takes it over images, a sum over the 8192 pixels of a map of 64x128;
    SKD takes the sum over images of the mean over pixels, and cross entropy instead of divergence.
    The authors of KD have no recipe for heads with sigmoid.
:Published: Faster R-CNN R50, Cascade Mask R-CNN X101-64x4d (45.6), 2x: 38.4 -> 39.7 (DIST's paper,
    from memory); RetinaNet R50, RetinaNet X101-64x4d (41.0), 2x: 37.4 -> 37.2 (DIST's paper, from
    memory); ResNet18, ResNet34, ImageNet, τ = 4: 69.76 -> 71.21 (README of DIST)
"""
from functools import cache
from typing import Any, Callable, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import log_softmax, logsigmoid, softplus

from ..core.arguments import true_or_false
from ..core.table import LOSSES
from .fast import fused
from .fast.eager import eager
from .fast.pieces import TINY, as_maps, logits_of, pieces, probabilities
from .logits import LogitLoss, check_activation, weighted_mean
from .lskd import (
    STANDARDIZED_HAVE_NO_LEVEL,
    notes_of_standardized,
    standardized,
    standardized_at,
)
from .method import Method


@LOSSES.register
class KDLoss(LogitLoss):
    r"""Kullback-Leibler divergence of softened class probabilities.

    `Distilling the Knowledge in a Neural Network <https://arxiv.org/abs/1503.02531>`_, section 2.
    With :math:`p = act(logits / \tau)` and M positions of all images:

    - softmax: :math:`\tau^2 \frac{1}{M} \sum_m \sum_c p^T (\log p^T - \log p^S)`;
    - sigmoid: each class is a Bernoulli variable,
      :math:`\tau^2 \frac{1}{M} \sum_m \sum_c [p^T (\log p^T - \log p^S)
      + (1 - p^T)(\log(1 - p^T) - \log(1 - p^S))]`.

    The factor τ² makes the size of the gradient independent of τ (section 2.1 of the paper). The
    mean is taken over all positions, not only over images; other implementations differ from this
    by orders of magnitude.

    Args:
        tau (float): Temperature, greater than 0. Defaults to 1.0.
        use_sigmoid (bool, optional): Sigmoid or softmax. Defaults to None: the activation of the
            student's head inside a Distiller, softmax otherwise.
        loss_weight (float): Factor of the result. Defaults to 1.0.
        standardize (bool): Whether the logits of each position are standardised first, see
            :func:`mmkd.losses.lskd.standardized`; for softmax alone. Defaults to False.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``tau`` is not greater than 0; if logits of a sigmoid are to be standardised.

    Example:
        >>> student, teacher = torch.randn(2, 3, 19, 4, 4)
        >>> KDLoss(tau=4.0)(student, teacher).shape
        torch.Size([])
    """

    def __init__(self, tau: float = 1.0, use_sigmoid: Optional[bool] = None,
                 loss_weight: float = 1.0, standardize: bool = False) -> None:
        super().__init__(tau, use_sigmoid, loss_weight)
        self.standardize = true_or_false('standardize', standardize)
        if standardize:
            self.needs_softmax = STANDARDIZED_HAVE_NO_LEVEL
            check_activation(self, '`use_sigmoid=True`', use_sigmoid)

    def compare(self, student: Tensor, teacher: Tensor, weight: Optional[Tensor] = None,
                **named: Any) -> Tensor:
        if self.standardize:
            student, teacher = (standardized_at(side, weight) for side in (student, teacher))
        result: Tensor = eager(_KD.apply)(*as_maps(student, teacher, weight), self.tau,
                                          bool(self.use_sigmoid))
        return self.tau**2 * result

    def compare_rows(self, student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
        """The formula above, by autograd. :meth:`compare` computes the same value in chunks, in
        less time and memory."""
        if self.standardize:
            student, teacher = (standardized(self.tau * side) / self.tau
                                for side in (student, teacher))
        return weighted_mean(divergence(student.T, teacher.T, bool(self.use_sigmoid)), weight)

    def notes(self, channels: int) -> List[str]:
        return super().notes(channels) or (
            notes_of_standardized(self, channels) if self.standardize else [])


def divergence(student: Tensor, teacher: Tensor, use_sigmoid: bool) -> Tensor:
    """Kullback-Leibler divergence of each column.

    Args:
        student (Tensor): Float (C, M), logits / τ.
        teacher (Tensor): The same.
        use_sigmoid (bool): Whether each class is a Bernoulli variable of its own.

    Returns:
        Tensor: (M,).
    """
    if use_sigmoid:
        return (teacher.sigmoid() * (logsigmoid(teacher) - logsigmoid(student)) +
                (-teacher).sigmoid() * (logsigmoid(-teacher) - logsigmoid(-student))).sum(0)
    log_p_student, log_p_teacher = log_softmax(student, 0), log_softmax(teacher, 0)
    return (log_p_teacher.exp() * (log_p_teacher - log_p_student)).sum(0)


def of_bernoulli(student: Tensor, teacher: Tensor) -> Tensor:
    r"""The same as :func:`divergence` with ``use_sigmoid=True``, with half as many logarithms.

    With :math:`\log \sigma(x) = x - \log(1 + e^x)` and
    :math:`\log(1 - \sigma(x)) = -\log(1 + e^x)`, the divergence of a class is
    :math:`\sigma(t) (t - s) + \log(1 + e^s) - \log(1 + e^t)`. It has the same value for -s and -t.
    The sign with t < 0 is used, which avoids cancellation of large terms.
    """
    sign = torch.copysign(teacher.new_ones(()), teacher).neg_()
    teacher, student = teacher.abs().neg_(), sign.mul_(student)
    difference = teacher.sigmoid().mul_(teacher - student)
    return difference.add_(softplus(student)).sub_(softplus(teacher)).sum(0)


class _KD(torch.autograd.Function):
    """Saves only the logits for backward: the gradient is the difference of the probabilities."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, weight: Optional[Tensor], tau: float,
                use_sigmoid: bool) -> Tensor:
        is_fused = fused.fits(student, teacher, weight) and is_believed(
            student.device, use_sigmoid, weight is not None)
        ctx.form = FUSED if is_fused else PIECEWISE
        total, norms = ctx.form.diverge(student, teacher, weight, tau, use_sigmoid)
        # The sum of weights stays a tensor on the device: reading it would make the CPU wait.
        count = student.new_full((), student[:, 0].numel(), dtype=torch.float64) if (
            weight is None) else weight.sum().double()
        ctx.save_for_backward(student, teacher, weight, norms, count)
        ctx.settings = tau, use_sigmoid
        return (total / count.clamp(min=TINY)).to(student.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        student, teacher, weight, norms, count = ctx.saved_tensors
        tau, use_sigmoid = ctx.settings
        scale = gradient / (tau * count).to(gradient.dtype).clamp(min=TINY)
        scale = torch.where(count == 0, 0., scale)
        found = ctx.form.differ(student, teacher, weight, tau, use_sigmoid, norms, scale)
        return found, None, None, None, None


class Form(NamedTuple):
    """An implementation of value and gradient."""
    diverge: Callable[..., Tuple[Tensor, Optional[Tensor]]]
    """(student, teacher, weight, τ, use_sigmoid) -> (sum over all positions in float64, tensor
    saved for ``differ`` or None)."""
    differ: Callable[..., Tensor]
    """(student, teacher, weight, τ, use_sigmoid, saved tensor, factor) -> gradient."""


def diverge(student: Tensor, teacher: Tensor, weight: Optional[Tensor], tau: float,
            use_sigmoid: bool) -> Tuple[Tensor, None]:
    """The sum, computed in chunks."""
    total = student.new_zeros((), dtype=torch.float64)
    for n, piece in pieces(student):
        s, t, w = logits_of(student, teacher, weight, tau, n, piece)
        found = of_bernoulli(s, t) if use_sigmoid else divergence(s, t, False)
        total += (found if w is None else found * w).sum()
    return total, None


def differ(student: Tensor, teacher: Tensor, weight: Optional[Tensor], tau: float,
           use_sigmoid: bool, norms: None, scale: Tensor) -> Tensor:
    """The gradient, computed in chunks."""
    found = torch.empty_like(student)
    for n, piece in pieces(student):
        s, t, w = probabilities(student, teacher, weight, tau, use_sigmoid, n, piece)
        torch.mul(s.sub_(t), scale if w is None else w * scale, out=found[n, :, piece])
    return found


PIECEWISE = Form(diverge, differ)
FUSED = Form(fused.diverge, fused.differ)


@cache
def is_believed(device: torch.device, use_sigmoid: bool, has_weight: bool) -> bool:
    """Whether the kernels agree with the computation in chunks. It is tested once, on random
    numbers."""
    generator = torch.Generator().manual_seed(0)
    student, teacher, weight = (torch.randn(shape, generator=generator).to(device)
                                for shape in ((2, 21, 300), (2, 21, 300), (2, 300)))
    asked = student, teacher, weight.relu() if has_weight else None, 2., use_sigmoid

    def said(form: Form) -> List[Tensor]:
        total, norms = form.diverge(*asked)
        return [total, form.differ(*asked, norms, torch.tensor(3., device=device))]

    return fused.agree(f'KD on {device}', lambda: said(PIECEWISE), lambda: said(FUSED))


METHOD = Method('kd', [
    dict(type='mmkd.KDLoss', on='cls'),
    dict(type='mmkd.KDLoss', on='aux', loss_weight=0.4, if_there=True)],
    classifier=[dict(type='mmkd.KDLoss', on='cls', tau=4.0)])
