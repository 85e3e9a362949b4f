"""What do the rows of all processes say together, and where does their gradient go?"""
from typing import Any, List, Tuple

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

from ..core.processes import all_rows, rank, world_size

CONSTANT, LEARNS, NO_GRAD = range(3)
"""What a process says of the rows that it gives: no gradient is needed, it is, it is switched
off."""


def gathered(x: Tensor) -> Tensor:
    """Concatenate the rows of all processes, with gradient.

    The gradient of a process's rows is the *sum* over processes of their gradients. A distributed
    wrapper then averages gradients over processes. So what is trained is the mean over processes of
    their losses: if all of them compute the same loss from the gathered rows, or each computes the
    mean over its own rows, all of them of one number, against the gathered ones, gradients are
    those of one process with the whole batch.

    A loss that calls it declares ``communicates = True``: every process calls it in every step,
    with rows or without, and runs backward through the result. All processes get the rows of all,
    so a mean over them has the same denominator everywhere.

    Args:
        x (Tensor): (M, ...); M may differ between processes, and be 0.

    Returns:
        Tensor: (sum of all M, ...), in order of rank; ``x`` itself where there is one process, and
        while a loss is tried before training. With several processes the CPU waits for the GPU.

    Raises:
        ValueError: In every process, if dtypes or shapes without the first dimension differ, or
            one process is inside ``torch.no_grad()`` and another needs gradients.

    Example:
        >>> x = torch.tensor([[1., 2.], [3., 4.]], requires_grad=True)
        >>> similarity = torch.cosine_similarity(x[:, None], gathered(x)[None], dim=-1)
        >>> similarity.shape  # (own rows, rows of all processes)
        torch.Size([2, 2])
    """
    if world_size() == 1:
        return x
    own = NO_GRAD if not torch.is_grad_enabled() else LEARNS if x.requires_grad else CONSTANT
    (rows, ), counts, notes = all_rows(x, note=own)
    if LEARNS not in notes:
        return rows
    if NO_GRAD in notes:  # their backward would never answer
        raise ValueError(f'`gathered` was called inside `torch.no_grad()` in process '
                         f'{notes.index(NO_GRAD)}, but process {notes.index(LEARNS)} needs '
                         'gradients; call it in the same mode in all processes')
    # A process whose own rows have no gradient takes part in the backward, too.
    anchor = torch.zeros((), device=x.device, requires_grad=True)
    result: Tensor = _Gathered.apply(x, anchor, (rows, ), counts)
    return result


class _Gathered(torch.autograd.Function):

    @staticmethod
    def forward(ctx: Any, x: Tensor, anchor: Tensor, rows: Tuple[Tensor], counts: List[int]
                ) -> Tensor:
        first = sum(counts[:rank()])
        ctx.own = slice(first, first + len(x))
        return rows[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        total = gradient.to(torch.promote_types(gradient.dtype, torch.float32)).contiguous()
        if total is gradient or total.data_ptr() == gradient.data_ptr():
            total = total.clone()  # autograd may use it elsewhere
        distributed.all_reduce(total)
        return total[ctx.own].to(gradient.dtype), None, None, None
