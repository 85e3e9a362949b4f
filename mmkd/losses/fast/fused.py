"""How is a loss on large logits computed on a GPU in little more than the time of reading them?

Kernels in Triton, which torch's builds for CUDA bring along. Each program looks at a few positions
of one image and goes through their classes, so that both logits are read once for the value (twice
with softmax, whose norm comes first) and once for the gradient (twice for DIST's with softmax).
What they say is what :mod:`mmkd.losses.fast.closed_form` and :mod:`mmkd.losses.kd` say piece by
piece.
"""
from typing import Callable, List, Optional, Tuple, Union

import torch
from torch import Tensor

from ...core.log import warn

try:
    from . import kernels
except ImportError:  # Triton is not there in torch's builds for CPU
    kernels = None  # type: ignore[assignment]

POSITIONS, CLASSES = 32, 32
"""Positions and classes that a program looks at together: few, so that there are many programs."""


def gather(student: Tensor, teacher: Tensor, weight: Optional[Tensor], tau: float,
           use_sigmoid: bool) -> Tuple[Tensor, Tensor, Union[float, Tensor], Optional[Tensor]]:
    """The moments of rows and columns.

    Args:
        student (Tensor): Float32 (N, C, L), on a GPU.
        teacher (Tensor): The same.
        weight (Tensor, optional): Float32 (N, L).
        tau (float): Temperature.
        use_sigmoid (bool): Sigmoid or softmax.

    Returns:
        tuple: Of the rows, (5, N, L); of the columns, float64 (5, C); how many positions, weighted,
        they are, with a weight a float64 scalar; for :func:`spread`, what softmax divides by, as a
        logarithm (2, N, L).
    """
    count, classes, length = student.shape
    row = student.new_empty(5, count, length)
    norms = None if use_sigmoid else student.new_empty(2, count, length)
    blocks = blocks_of(length)
    column = student.new_empty(count * blocks, 5, classes)
    counts = student.new_empty(count * blocks)
    _run('gather', student, teacher, weight, tau, use_sigmoid, row, norms, column, counts)
    merged, total = merge_all(column, counts)
    # A number that is not known stays on the GPU: the CPU would wait for it.
    return row, merged, float(count * length) if weight is None else total, norms


def merge_all(column: Tensor, counts: Tensor) -> Tuple[Tensor, Tensor]:
    """As :func:`mmkd.losses.fast.closed_form.merge`, of many at once.

    Args:
        column (Tensor): Float (K, 5, C), moments of K sets of samples.
        counts (Tensor): (K,), how many samples each has.

    Returns:
        tuple[Tensor, Tensor]: Float64 (5, C); a scalar, how many samples it stands for.
    """
    counts, column = counts.double(), column.double()
    total = counts.sum()
    mean = torch.tensordot(counts, column[:, :2], 1) / total.clamp(min=1e-300)
    ds, dt = (column[:, :2] - mean).unbind(1)
    between = torch.stack([torch.tensordot(counts, one, 1) for one in (ds * ds, dt * dt, ds * dt)])
    return torch.cat([mean, column[:, 2:].sum(0) + between]), total


def spread(student: Tensor, teacher: Tensor, weight: Optional[Tensor], tau: float,
           use_sigmoid: bool, norms: Optional[Tensor], of_row: Tensor, of_column: Tensor,
           gradient: Tensor) -> Tensor:
    """The gradient for the student's logits.

    Args:
        student (Tensor): As in :func:`gather`, and so are the next four.
        teacher (Tensor): The same.
        weight (Tensor, optional): The same.
        tau (float): The same.
        use_sigmoid (bool): The same.
        norms (Tensor, optional): As :func:`gather` gave them.
        of_row (Tensor): Float32 (3, N, L): a, b, c of :math:`a t + b s + c`, of the rows.
        of_column (Tensor): Float32 (3, C): those of the columns.
        gradient (Tensor): A scalar, the factor of all.

    Returns:
        Tensor: As the student.
    """
    found = torch.empty_like(student, memory_format=torch.contiguous_format)
    _run('spread', student, teacher, weight, tau, use_sigmoid, norms, of_row.contiguous(),
         of_column.contiguous(), gradient, found)
    return found


def diverge(student: Tensor, teacher: Tensor, weight: Optional[Tensor], tau: float,
            use_sigmoid: bool) -> Tuple[Tensor, Optional[Tensor]]:
    """KD's divergence, summed over all positions.

    Args:
        student (Tensor): As in :func:`gather`, and so are the next four.
        teacher (Tensor): The same.
        weight (Tensor, optional): The same.
        tau (float): The same.
        use_sigmoid (bool): The same.

    Returns:
        tuple[Tensor, Tensor | None]: A scalar, float64; for :func:`differ`, what softmax divides
        by.
    """
    count, _, length = student.shape
    norms = None if use_sigmoid else student.new_empty(2, count, length)
    sums = student.new_empty(count * blocks_of(length))
    _run('diverge', student, teacher, weight, tau, use_sigmoid, norms, sums)
    return sums.double().sum(), norms


def differ(student: Tensor, teacher: Tensor, weight: Optional[Tensor], tau: float,
           use_sigmoid: bool, norms: Optional[Tensor], scale: Tensor) -> Tensor:
    """The gradient of :func:`diverge` for the student's logits: the difference of probabilities.

    Args:
        student (Tensor): As in :func:`gather`, and so are the next four.
        teacher (Tensor): The same.
        weight (Tensor, optional): The same.
        tau (float): The same.
        use_sigmoid (bool): The same.
        norms (Tensor, optional): As :func:`diverge` gave them.
        scale (Tensor): A scalar, the factor of all.

    Returns:
        Tensor: As the student.
    """
    found = torch.empty_like(student, memory_format=torch.contiguous_format)
    _run('differ', student, teacher, weight, tau, use_sigmoid, norms, scale, found)
    return found


def blocks_of(length: int) -> int:
    """How many programs go through the positions of an image."""
    return (length + POSITIONS - 1) // POSITIONS


def _run(kernel: str, student: Tensor, teacher: Tensor, weight: Optional[Tensor], tau: float,
         use_sigmoid: bool, *rest: Optional[Tensor]) -> None:
    """Start a kernel on all positions of all images; what is None is not looked at by it."""
    count, classes, length = student.shape
    student, teacher = student.contiguous(), teacher.contiguous()
    pointers = (student if one is None else one
                for one in (None if weight is None else weight.contiguous(), *rest))
    getattr(kernels, kernel)[(blocks_of(length), count)](
        student, teacher, *pointers, 1 / tau, classes, length, count * length,
        USE_SIGMOID=use_sigmoid, HAS_WEIGHT=weight is not None, P=POSITIONS, B=CLASSES)


def fits(*tensors: Optional[Tensor]) -> bool:
    """Whether the kernels are there for these."""
    return kernels is not None and all(
        one is None or (one.is_cuda and one.dtype == torch.float32) for one in tensors)


def agree(what: str, plain: Callable[[], List[Tensor]], fused: Callable[[], List[Tensor]]) -> bool:
    """Whether kernels say what is said without them; if not, or if they fail, with a warning.

    Args:
        what (str): What they compute, for the warning.
        plain (Callable): Says it without them.
        fused (Callable): Says it with them.
    """
    try:
        for one, other in zip(plain(), fused()):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    except Exception as error:  # whatever a compiler raises
        warn(f'The fused kernels of {what} are left out, which goes piece by piece: '
             f'{type(error).__name__}: {str(error).strip().splitlines()[0]}')
        return False
    return True
