"""Cross entropy of sigmoid probabilities, weighed by the gap between them: BCKD and CrossKD."""
from typing import Any, Iterator, Optional, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

from .eager import eager
from .pieces import PIECE, as_maps

Block = Tuple[Any, ...]


def gap_cross_entropy(student: Tensor, teacher: Tensor, weight: Optional[Tensor]) -> Tensor:
    r"""Sum over positions and classes.

    With :math:`p = \sigma(s)`, :math:`q = \sigma(t)`: :math:`\sum_m w_m \sum_c |p - q| \,
    BCE(p, q)`, where :math:`BCE(p, q) = -q \log p - (1 - q) \log(1 - p)`. The gap has a gradient,
    too. Only the inputs are kept for the backward pass, which computes

    .. math:: \frac{\partial}{\partial s} = sign(p - q) \, p (1 - p) \, BCE(p, q) + |p - q| (p - q)

    Args:
        student (Tensor): Float (N, C, *positions), logits.
        teacher (Tensor): The same shape. It gets no gradient.
        weight (Tensor, optional): (N, *positions). Values at positions of weight 0 may be NaN.
            Defaults to None, 1 everywhere.

    Returns:
        Tensor: A scalar.
    """
    result: Tensor = eager(_Gap.apply)(*as_maps(student, teacher, weight))
    return result


class _Gap(torch.autograd.Function):

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, weight: Optional[Tensor]) -> Tensor:
        ctx.save_for_backward(student, teacher, weight)
        total = student.new_zeros((), dtype=torch.float64)
        for block in blocks(student):
            s, t, w = _at(block, student, teacher, weight)
            q = t.sigmoid()
            each = cross_entropy(s, q).mul_(s.sigmoid().sub_(q).abs_()).sum(1)
            total += (each if w is None else each * w).sum()
        return total.to(student.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        student, teacher, weight = ctx.saved_tensors
        found = torch.empty_like(student)
        for block in blocks(student):
            s, t, w = _at(block, student, teacher, weight)
            q, p = t.sigmoid(), s.sigmoid()
            gap = p - q
            slope = cross_entropy(s, q).mul_(p).mul_(p.neg_().add_(1))
            slope.mul_(gap.sign()).add_(gap.mul_(gap.abs()))
            torch.mul(slope, gradient if w is None else gradient * w.unsqueeze(1),
                      out=found[block])
        return found, None, None


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """-q log σ(s) - (1 - q) log(1 - σ(s)), without cancellation for large s of either sign."""
    return softplus(-logits.abs()).add_(logits.relu()).sub_(logits * target)


def blocks(logits: Tensor) -> Iterator[Block]:
    """Yield indices of (N, C, L): all of it where it fits a chunk, else slices of each image."""
    count, classes, length = logits.shape
    most = PIECE.get(logits.device.type, PIECE['cuda'])
    if logits.numel() <= most:
        yield (slice(None), ) * 3
        return
    step = max(1, most // max(classes, 1))
    for n in range(count):
        for begin in range(0, length, step):
            yield slice(n, n + 1), slice(None), slice(begin, begin + step)


def largest_gap(student: Tensor, teacher: Tensor) -> Tensor:
    """max over classes of |σ(s) - σ(t)|, without gradient: (N, C, *positions) to
    (N, *positions)."""
    with torch.no_grad():
        s, t, _ = as_maps(student, teacher, None)
        found = s.new_empty((len(s), s.shape[2]))
        for block in blocks(s):
            found[block[0], block[2]] = s[block].sigmoid().sub_(t[block].sigmoid()).abs_().amax(1)
        return found.view(len(student), *student.shape[2:])


def _at(block: Block, student: Tensor, teacher: Tensor, weight: Optional[Tensor]
        ) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
    """Logits and weights of a block; logits are 0 at positions of weight 0."""
    s, t = student[block], teacher[block]
    if weight is None:
        return s, t, None
    w = weight[block[0], block[2]]
    is_masked = (w == 0).unsqueeze(1)
    return s.masked_fill(is_masked, 0), t.masked_fill(is_masked, 0), w
