"""CWD on a GPU by fused kernels: each logit is read once for the value, and once for the gradient.

The divergence of a channel needs three numbers of it: the log-sum-exp of both sides, and the mean
of the difference of their logits under the teacher's probabilities. These are accumulated in one
pass. A channel is cut into spans, so that there are enough programs for a map with few channels.
The results agree with the computation in chunks of :mod:`mmkd.losses.cwd`.
"""
from typing import Optional, Tuple

from torch import Tensor

try:
    from . import channel_kernels as kernels
except ImportError:  # torch's builds for CPU have no Triton
    kernels = None  # type: ignore[assignment]

SPAN, BLOCK = 4096, 1024
"""Positions of a program, and of one step of its loop."""


def measure(student: Tensor, teacher: Tensor, weight: Optional[Tensor],
            tau: float) -> Tuple[Tensor, Tensor]:
    """The KL divergence of the channels, summed.

    Args:
        student (Tensor): Float32 (N, C, L), on a GPU.
        teacher (Tensor): The same.
        weight (Tensor, optional): Float32 (N, L).
        tau (float): Temperature.

    Returns:
        tuple[Tensor, Tensor]: A float64 scalar; for :func:`differ`, the logarithm of the
        normalizers of both sides, (2, N·C).
    """
    rows, spans = student.shape[0] * student.shape[1], spans_of(student)
    found = student.new_empty(3, rows, spans)
    _run('measure', student, teacher, weight, tau, found, last=rows * spans)
    norms, inside = found[:2], found[2]
    if spans == 1:
        norms, mean = norms.squeeze(2), inside.squeeze(1)
    else:
        parts, norms = norms, norms.logsumexp(2)
        mean = ((parts[1] - norms[1].unsqueeze(1)).exp() * inside).sum(1)
    return (mean - norms[1] + norms[0]).double().sum(), norms


def differ(student: Tensor, teacher: Tensor, weight: Optional[Tensor], tau: float, norms: Tensor,
           scale: Tensor) -> Tensor:
    """The gradient of :func:`measure`, times τ: the difference of the probabilities.

    Args:
        student (Tensor): See :func:`measure`.
        teacher (Tensor): See :func:`measure`.
        weight (Tensor, optional): See :func:`measure`.
        tau (float): See :func:`measure`.
        norms (Tensor): From :func:`measure`.
        scale (Tensor): A scalar factor.
    """
    found = student.new_empty(student.shape)
    _run('differ', student, teacher, weight, tau, norms.contiguous(), scale, found,
         last=norms.shape[1])
    return found


def spans_of(student: Tensor) -> int:
    """Number of programs for a channel."""
    return (student.shape[2] + SPAN - 1) // SPAN


def _run(kernel: str, student: Tensor, teacher: Tensor, weight: Optional[Tensor], tau: float,
         *rest: Tensor, last: int) -> None:
    """Launch a kernel for all channels. It does not access weights that are None."""
    count, channels, length = student.shape
    student, teacher = student.contiguous(), teacher.contiguous()
    spans = spans_of(student)
    getattr(kernels, kernel)[(count * channels * spans, )](
        student, teacher, student if weight is None else weight.contiguous(), *rest, 1 / tau,
        channels, length, spans, last, HAS_WEIGHT=weight is not None, S=SPAN, B=BLOCK)
