"""Divergence of similarities between rows, in chunks: never all similarities at once."""
from typing import Any, Iterator, Optional

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .eager import eager
from .pieces import TINY

CHUNK = 2**21
"""Number of similarities that are computed at once, for each side."""


def similarity_divergence(student: Tensor, teacher: Tensor, student_keys: Tensor,
                          teacher_keys: Tensor, tau: float, weight: Optional[Tensor] = None,
                          blocks: int = 1) -> Tensor:
    r"""How differently are rows similar to keys? A Kullback-Leibler divergence.

    With :math:`p_{m,b} = softmax_k(x_m \cdot y_k / \tau)` over the keys k of block b:

    .. math:: \frac{1}{B \sum_m w_m} \sum_m w_m \sum_b \sum_{k \in b} p^T_{m,b,k}
        (\log p^T_{m,b,k} - \log p^S_{m,b,k})

    Value and gradient are computed together, :data:`CHUNK` similarities at a time. Memory: the
    gradients, and four chunks.

    Args:
        student (Tensor): (M, C), rows. Gradient.
        teacher (Tensor): (M, D), the same rows of the teacher.
        student_keys (Tensor): (K, C). Gradient.
        teacher_keys (Tensor): (K, D).
        tau (float): Temperature.
        weight (Tensor, optional): (M,), of the rows. Defaults to None, equal weights.
        blocks (int): B, number of equal parts of the keys, each with a softmax of its own.
            Defaults to 1.

    Returns:
        Tensor: A scalar; 0 without rows.

    Example:
        >>> rows, keys = torch.eye(3), torch.eye(3)[:2]
        >>> similarity_divergence(rows, rows, keys, keys, tau=0.1).item()
        0.0
    """
    result: Tensor = eager(_Similarities.apply)(student, teacher, student_keys, teacher_keys,
                                                weight, tau, blocks)
    return result


def _chunks(rows: int, keys: int) -> Iterator[slice]:
    step = max(CHUNK // max(keys, 1), 1)
    return (slice(first, first + step) for first in range(0, rows, step))


class _Similarities(torch.autograd.Function):

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, student_keys: Tensor,
                teacher_keys: Tensor, weight: Optional[Tensor], tau: float, blocks: int) -> Tensor:
        of_rows, of_keys = ctx.needs_input_grad[0], ctx.needs_input_grad[2]
        rows = torch.empty_like(student) if of_rows else None
        keys = torch.zeros_like(student_keys) if of_keys else None
        total = student.new_zeros((), dtype=torch.float64)
        for piece in _chunks(len(student), len(student_keys)):
            own, other = (torch.mm(one[piece], by.T).div_(tau).unflatten(1, (blocks, -1))
                          .log_softmax(2) for one, by in ((student, student_keys),
                                                          (teacher, teacher_keys)))
            target = other.exp()
            found = other.sub_(own).mul_(target).sum((1, 2))
            total += (found if weight is None else found * weight[piece]).sum()
            if of_rows or of_keys:
                error = own.exp_().sub_(target).flatten(1)
                if weight is not None:
                    error *= weight[piece, None]
                if rows is not None:
                    torch.mm(error, student_keys, out=rows[piece])
                if keys is not None:
                    keys.addmm_(error.T, student[piece])
        count = total.new_full((), len(student)) if weight is None else weight.sum().double()
        count = blocks * count.clamp(min=TINY)
        for gradient in (rows, keys):
            if gradient is not None:
                gradient /= (tau * count).to(gradient.dtype)
        ctx.save_for_backward(rows, keys)
        return (total / count).to(student.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        rows, keys = (None if one is None else one * gradient for one in ctx.saved_tensors)
        return rows, None, keys, None, None, None, None
