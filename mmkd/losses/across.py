"""How are the rows of all processes concatenated, with gradient?"""
from typing import Any, List, Tuple

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

from ..core.processes import all_rows, rank, world_size

CONSTANT, LEARNS, NO_GRAD = range(3)
"""State of the rows of a process: constant, requiring a gradient, or inside
``torch.no_grad()``."""


def gathered(x: Tensor) -> Tensor:
    """Concatenate the rows of all processes, with gradient.

    The gradient of the local rows is the *sum* over processes of the gradients of these rows. A
    distributed wrapper then averages the gradients of the parameters over processes, so the mean
    of the losses of all processes is optimized. The gradients equal those of one process with the
    whole batch in two cases: every process computes the same loss from the gathered rows, or every
    process compares its own rows with the gathered ones, takes the mean over its own rows, and all
    processes have the same number of rows.

    A loss that calls it declares ``communicates = True``: every process must call it in every
    step, even with 0 rows, and run backward through the result. All processes get the same rows,
    so a mean over them has the same denominator in every process.

    Args:
        x (Tensor): (M, ...); M may differ between processes, and be 0.

    Returns:
        Tensor: (sum of all M, ...), ordered by rank; ``x`` itself if there is one process, and
        during the trial of a loss before training. With several processes the CPU waits for the
        GPU.

    Raises:
        ValueError: In every process, if the dtypes or the shapes apart from the first dimension
            differ, or if one process is inside ``torch.no_grad()`` and another needs gradients.

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
    if NO_GRAD in notes:  # its backward would never run, and the others would wait
        raise ValueError(f'`gathered` was called inside `torch.no_grad()` in process '
                         f'{notes.index(NO_GRAD)}, but process {notes.index(LEARNS)} needs '
                         'gradients; call it in the same mode in all processes')
    # A process with rows that need no gradient must take part in the all_reduce of the backward.
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
