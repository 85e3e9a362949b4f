"""CWD: each channel's map says where to look, and the student looks there (Shu et al., 2021)."""
from typing import Any, Iterator, Optional, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import log_softmax

from ..core.arguments import temperature
from ..core.table import LOSSES
from .base import DistillLoss
from .fast.eager import eager
from .fast.pieces import pieces

NOWHERE = -1e30
"""Logit of a position that does not count: its probability is 0, and all stays finite."""


@LOSSES.register
class CWDLoss(DistillLoss):
    r"""Kullback-Leibler divergence of where each channel is active.

    `Channel-wise Knowledge Distillation for Dense Prediction <https://arxiv.org/abs/2011.13256>`_,
    section 3.2. With :math:`p_{n,c} = softmax(x_{n,c} / \tau)` over the H·W positions of a channel:

    .. math:: \frac{\tau^2}{N C} \sum_{n,c} \sum_i p^T_{n,c,i} (\log p^T_{n,c,i} - \log p^S_{n,c,i})

    For logits of segmentors the authors have τ = 4 and weight 3; for those of dense detectors, and
    for features of a neck, τ = 1 and weights of 5 and 10 are in use. A constant that is added to a
    channel does not matter. With a weight of positions, each counts as that many of its kind: a
    mask leaves positions out, as if the map had none there.

    Whatever has two dimensions of positions can be compared: feature maps and class logits, and
    also 'mask', of RoIs (N is then the RoIs) or of a mask transformer's paired queries (a channel
    is then the mask of one query). A map of one position has nothing to say.

    Args:
        tau (float): Temperature, greater than 0. Defaults to 4.0.
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Raises:
        ValueError: If ``tau`` is not greater than 0; when called, if it is given something else
            than (N, C, H, W), such as vectors (N, C) or class logits of queries (N, C, Q).
    """

    def __init__(self, tau: float = 4.0, loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.tau = temperature(tau)

    def compare(self, student: Tensor, teacher: Tensor, weight: Optional[Tensor]) -> Tensor:
        if student.dim() != 4:  # class logits of queries, (N, C, Q), have no positions
            raise ValueError(
                'CWDLoss compares at which positions of a map each channel is active, so it needs '
                f'(N, C, H, W), but got {tuple(student.shape)}; use mmkd.KDLoss or mmkd.DISTLoss '
                "here, or a point that has maps, such as 'neck'")
        if student.numel() == 0:
            return student.sum() * 0
        weight = None if weight is None else weight.flatten(1)
        result: Tensor = eager(_CWD.apply)(student.flatten(2), teacher.flatten(2), weight,
                                           self.tau)
        return self.tau**2 * result


def divergence(student: Tensor, teacher: Tensor, weight: Optional[Tensor] = None,
               tau: float = 1.) -> Tensor:
    """Kullback-Leibler divergence of each channel, the formula as it is written.

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
    """What softmax over the last dimension turns into the shares of the positions."""
    x = x if tau == 1 else x / tau
    return x if weight is None else torch.where(weight > 0, x + weight.log(), NOWHERE)


class _CWD(torch.autograd.Function):
    """Keeps nothing but the maps: the gradient is the difference of the probabilities."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, weight: Optional[Tensor],
                tau: float) -> Tensor:
        total = student.new_zeros((), dtype=torch.float64)
        for n, channels, w in channels_of(student, weight):
            total += divergence(student[n, channels], teacher[n, channels], w, tau).sum()
        # An image of which nothing counts has no map: both its sides are alike, and add nothing.
        images = len(student) if weight is None else weight.any(1).sum().clamp(min=1)
        count = images * student.shape[1]
        ctx.save_for_backward(student, teacher, weight)
        ctx.settings = tau, count
        return (total / count).to(student.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        student, teacher, weight = ctx.saved_tensors
        tau, count = ctx.settings
        found = torch.empty_like(student)
        for n, channels, w in channels_of(student, weight):
            p_student, p_teacher = (torch.softmax(logits_of(side[n, channels], w, tau), 1)
                                    for side in (student, teacher))
            torch.mul(p_student.sub_(p_teacher), gradient / (tau * count), out=found[n, channels])
        return found, None, None, None


def channels_of(maps: Tensor,
                weight: Optional[Tensor]) -> Iterator[Tuple[int, slice, Optional[Tensor]]]:
    """Image by image, slices of the channels of (N, C, L) and the weights of the positions."""
    for n, channels in pieces(maps.transpose(1, 2)):
        yield n, channels, None if weight is None else weight[n]
