"""Fused kernels for losses on large logits on a GPU, limited by the memory bandwidth.

The kernels are in Triton, which is part of torch's builds for CUDA. Each program handles a few
positions of one image and loops over their classes. Both logits are read once for the value (twice
for softmax, which needs the normalizer first) and once for the gradient (twice for DIST with
softmax). The results agree with the computation in chunks of
:mod:`mmkd.losses.fast.closed_form` and :mod:`mmkd.losses.kd`.
"""
from typing import Callable, List, Optional, Tuple, Union

import torch
from torch import Tensor

from ...core.errors import said_by
from ...core.log import warn

try:
    from . import kernels
except ImportError:  # torch's builds for CPU have no Triton
    kernels = None  # type: ignore[assignment]

POSITIONS, CLASSES = 32, 32
"""Block size of a program in positions and in classes; small, so that there are many programs."""


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
        tuple: Moments of the rows (5, N, L); moments of the columns, float64 (5, C); the number of
        positions, or the sum of their weights as a float64 scalar; for :func:`spread`, the
        logarithm of the normalizer of softmax (2, N, L), or None.
    """
    count, classes, length = student.shape
    row = student.new_empty(5, count, length)
    norms = None if use_sigmoid else student.new_empty(2, count, length)
    blocks = blocks_of(length)
    column = student.new_empty(count * blocks, 5, classes)
    counts = student.new_empty(count * blocks)
    _run('gather', student, teacher, weight, tau, use_sigmoid, row, norms, column, counts)
    merged, total = merge_all(column, counts)
    # The sum of weights stays on the GPU: reading it would make the CPU wait.
    return row, merged, float(count * length) if weight is None else total, norms


def merge_all(column: Tensor, counts: Tensor) -> Tuple[Tensor, Tensor]:
    """The same as :func:`mmkd.losses.fast.closed_form.merge`, for many sets of samples at once.

    Args:
        column (Tensor): Float (K, 5, C), moments of K sets of samples.
        counts (Tensor): (K,), number of samples in each.

    Returns:
        tuple[Tensor, Tensor]: Moments, float64 (5, C); a scalar, the number of samples.
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
    """The gradient with respect to the student's logits.

    Args:
        student (Tensor): See :func:`gather`.
        teacher (Tensor): See :func:`gather`.
        weight (Tensor, optional): See :func:`gather`.
        tau (float): See :func:`gather`.
        use_sigmoid (bool): See :func:`gather`.
        norms (Tensor, optional): From :func:`gather`.
        of_row (Tensor): Float32 (3, N, L): a, b, c of :math:`a t + b s + c`, part of the rows.
        of_column (Tensor): Float32 (3, C): part of the columns.
        gradient (Tensor): A scalar factor.

    Returns:
        Tensor: The gradient, with shape and dtype of the student's logits.
    """
    found = torch.empty_like(student, memory_format=torch.contiguous_format)
    _run('spread', student, teacher, weight, tau, use_sigmoid, norms, of_row.contiguous(),
         of_column.contiguous(), gradient, found)
    return found


def diverge(student: Tensor, teacher: Tensor, weight: Optional[Tensor], tau: float,
            use_sigmoid: bool) -> Tuple[Tensor, Optional[Tensor]]:
    """The KL divergence of KD, summed over all positions.

    Args:
        student (Tensor): See :func:`gather`.
        teacher (Tensor): See :func:`gather`.
        weight (Tensor, optional): See :func:`gather`.
        tau (float): See :func:`gather`.
        use_sigmoid (bool): See :func:`gather`.

    Returns:
        tuple[Tensor, Tensor | None]: A float64 scalar; for :func:`differ`, the logarithm of the
        normalizer of softmax, or None.
    """
    count, _, length = student.shape
    norms = None if use_sigmoid else student.new_empty(2, count, length)
    sums = student.new_empty(count * blocks_of(length))
    _run('diverge', student, teacher, weight, tau, use_sigmoid, norms, sums)
    return sums.double().sum(), norms


def differ(student: Tensor, teacher: Tensor, weight: Optional[Tensor], tau: float,
           use_sigmoid: bool, norms: Optional[Tensor], scale: Tensor) -> Tensor:
    """The gradient of :func:`diverge` with respect to the student's logits: the difference of the
    probabilities.

    Args:
        student (Tensor): See :func:`gather`.
        teacher (Tensor): See :func:`gather`.
        weight (Tensor, optional): See :func:`gather`.
        tau (float): See :func:`gather`.
        use_sigmoid (bool): See :func:`gather`.
        norms (Tensor, optional): From :func:`diverge`.
        scale (Tensor): A scalar factor.

    Returns:
        Tensor: The gradient, with shape and dtype of the student's logits.
    """
    found = torch.empty_like(student, memory_format=torch.contiguous_format)
    _run('differ', student, teacher, weight, tau, use_sigmoid, norms, scale, found)
    return found


def blocks_of(length: int) -> int:
    """Number of programs for the positions of an image."""
    return (length + POSITIONS - 1) // POSITIONS


def _run(kernel: str, student: Tensor, teacher: Tensor, weight: Optional[Tensor], tau: float,
         use_sigmoid: bool, *rest: Optional[Tensor]) -> None:
    """Launch a kernel for all positions of all images. The kernel does not access tensors that are
    None."""
    count, classes, length = student.shape
    student, teacher = student.contiguous(), teacher.contiguous()
    pointers = (student if one is None else one
                for one in (None if weight is None else weight.contiguous(), *rest))
    getattr(kernels, kernel)[(blocks_of(length), count)](
        student, teacher, *pointers, 1 / tau, classes, length, count * length,
        USE_SIGMOID=use_sigmoid, HAS_WEIGHT=weight is not None, P=POSITIONS, B=CLASSES)


def fits(*tensors: Optional[Tensor]) -> bool:
    """Whether the kernels support these tensors."""
    return kernels is not None and all(
        one is None or (one.is_cuda and one.dtype == torch.float32) for one in tensors)


def agree(what: str, plain: Callable[[], List[Tensor]], fused: Callable[[], List[Tensor]]) -> bool:
    """Whether the results with and without kernels agree; if not, or if the kernels fail, a warning
    is logged.

    Args:
        what (str): Name of the computation, for the warning.
        plain (Callable): Computes it without kernels.
        fused (Callable): Computes it with kernels.
    """
    try:
        for one, other in zip(plain(), fused()):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    except Exception as error:  # from the compiler
        warn(f'{what} runs without its fused kernels, which failed: {said_by(error)}')
        return False
    return True
