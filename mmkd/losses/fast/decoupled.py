"""DKD and NKD in closed form: the class of the label apart from the others.

With g the class of the label and B the log-sum-exp of the other logits, the probability of g is
:math:`\\sigma(m)` of the margin :math:`m = z_g - B`, and the softmax over the other classes is
:math:`e^{z_c - B}`. Both losses are a function of the two margins and a divergence of the others, so
the gradient follows from one softmax over the others: only the logits are saved for backward.
"""
from typing import Any, Callable, NamedTuple, Optional, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import logsigmoid, softplus

from .eager import eager
from .pieces import TINY, as_maps, logits_of, pieces

LEFT_OUT = -1e30
"""Logit of a class that is left out: its probability is 0, and all values remain finite."""


class Formula(NamedTuple):
    """One of the two losses."""
    target: Callable[[Tensor, Tensor], Tuple[Tensor, Tensor]]
    """(student's margin, teacher's margin) -> (value, derivative by the student's margin)."""
    target_tau: float
    """Temperature of the margins."""
    tau: float
    """Temperature of the other classes."""
    alpha: float
    """Weight of the part of the target."""
    beta: float
    """Weight of the part of the others."""
    is_divergence: bool
    """Whether the others are compared by their divergence, or by their cross entropy."""


def weight_of(labels: Tensor, logits: Tensor, weight: Optional[Tensor] = None) -> Tensor:
    """Weights of the positions, 0 where there is no label.

    Args:
        labels (Tensor): int64 (N, *positions).
        logits (Tensor): (N, C, *positions), whose dtype the weights get.
        weight (Tensor, optional): (N, *positions). Defaults to None, equal weights.

    Returns:
        Tensor: (N, *positions), 0 for labels other than 0 to C-1.
    """
    has_class = (labels >= 0) & (labels < logits.shape[1])
    return has_class.to(logits.dtype) if weight is None else torch.where(has_class, weight, 0.)


def decoupled(student: Tensor, teacher: Tensor, labels: Tensor, weight: Tensor,
              formula: Formula) -> Tensor:
    """The weighted mean of a formula over the positions.

    Args:
        student (Tensor): Float32 or float64 (N, C, *positions), logits.
        teacher (Tensor): The same, without gradient.
        labels (Tensor): int64 (N, *positions), from 0 to C-1 where the weight is not 0.
        weight (Tensor): (N, *positions), from :func:`weight_of`.
        formula (Formula): The loss.

    Returns:
        Tensor: A scalar; 0 without any position of positive weight.
    """
    if student.numel() == 0:
        return student.sum() * 0
    index = as_maps(labels.unsqueeze(1), labels.unsqueeze(1), None)[0]
    result: Tensor = eager(_Decoupled.apply)(
        *as_maps(student, teacher, weight), index.clamp(0, student.shape[1] - 1), formula)
    return result


class _Decoupled(torch.autograd.Function):

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, weight: Tensor, index: Tensor,
                formula: Formula) -> Tensor:
        total = student.new_zeros((), dtype=torch.float64)
        for n, piece in pieces(student):
            s, t, w = logits_of(student, teacher, weight, 1., n, piece)
            at = index[n, :, piece]
            margins, (log_s, log_t) = compared(s, t, at, formula.tau)
            others = log_t.exp() * (log_t - log_s if formula.is_divergence else -log_s)
            if formula.target_tau != formula.tau:
                margins, _ = compared(s, t, at, formula.target_tau)
            value = formula.alpha * formula.target(*margins)[0] + formula.beta * others.sum(0)
            total += (value * w).sum()
        count = weight.sum().double()
        ctx.save_for_backward(student, teacher, weight, index, count)
        ctx.formula = formula
        return (total / count.clamp(min=TINY)).to(student.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        student, teacher, weight, index, count = ctx.saved_tensors
        formula = ctx.formula
        scale = gradient / count.to(gradient.dtype).clamp(min=TINY)
        scale = torch.where(count == 0, 0., scale)
        found = torch.empty_like(student)
        for n, piece in pieces(student):
            s, t, w = logits_of(student, teacher, weight, 1., n, piece)
            at = index[n, :, piece]
            margins, (log_s, log_t) = compared(s, t, at, formula.tau)
            p_s = log_s.exp_()
            outer = (p_s - log_t.exp_()).mul_(formula.beta / formula.tau)
            if formula.target_tau != formula.tau:
                margins, (log_s, _) = compared(s, t, at, formula.target_tau)
                p_s = log_s.exp_()
            # The margin grows by the logit of the label, and falls by the softmax over the others.
            by_margin = formula.target(*margins)[1] * (formula.alpha / formula.target_tau)
            outer.addcmul_(p_s, by_margin, value=-1)
            outer.scatter_(0, at, by_margin.unsqueeze(0))
            torch.mul(outer, w * scale, out=found[n, :, piece])
        return found, None, None, None, None


def compared(student: Tensor, teacher: Tensor, at: Tensor,
             tau: float) -> Tuple[Tuple[Tensor, Tensor], Tuple[Tensor, Tensor]]:
    """Margins of a chunk, and the logarithm of the softmax over the other classes.

    Args:
        student (Tensor): (C, M), logits.
        teacher (Tensor): The same.
        at (Tensor): (1, M), the class of the label.
        tau (float): Temperature.

    Returns:
        tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]: The margins of student and teacher,
        (M,), and (C, M) of both.
    """
    margins, others = [], []
    for logits in (student, teacher):
        logits = logits if tau == 1 else logits / tau
        rest = logits.scatter(0, at, LEFT_OUT)
        norm = rest.logsumexp(0)
        margins.append(logits.gather(0, at).squeeze(0) - norm)
        others.append(rest.sub_(norm))
    return (margins[0], margins[1]), (others[0], others[1])


def binary_divergence(student: Tensor, teacher: Tensor) -> Tuple[Tensor, Tensor]:
    """KL divergence of the Bernoulli distributions with these logits, and its derivative by the
    student's: the target part of DKD."""
    p = teacher.sigmoid()
    # log(1 + e^s) - log(1 + e^t) - p (s - t), for the sign with t < 0, which avoids cancellation.
    sign = torch.where(teacher > 0, -1., 1.)
    s, t = sign * student, -teacher.abs()
    value = t.sigmoid() * (t - s) + softplus(s) - softplus(t)
    return value, student.sigmoid() - p


def expected_surprise(student: Tensor, teacher: Tensor) -> Tuple[Tensor, Tensor]:
    """:math:`-p^T_g \\log p^S_g`, and its derivative by the student's margin: the target part of
    NKD."""
    p = teacher.sigmoid()
    return -p * logsigmoid(student), -p * (-student).sigmoid()
