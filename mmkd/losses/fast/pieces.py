"""Computation on large logits in chunks, so that intermediate tensors fit the cache."""
from typing import Iterator, Optional, Tuple

import torch
from torch import Tensor

PIECE = dict(cpu=1 << 18, cuda=1 << 24)
"""Number of elements of the logits per chunk; on a CPU a chunk fits the cache."""


TINY = 1e-30
"""Lower bound of the sum of all weights, to avoid a division by 0."""


def as_maps(student: Tensor, teacher: Tensor,
            weight: Optional[Tensor]) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
    """Reshape (N, C, *positions), or rows (M, C), to (N, C, L), and weights to (N, L)."""
    student, teacher = (one.flatten(2) if one.dim() > 2 else one.T.unsqueeze(0)
                        for one in (student, teacher))
    if weight is not None:
        weight = weight.flatten(1) if weight.dim() > 1 else weight.unsqueeze(0)
    return student, teacher, weight


def pieces(logits: Tensor) -> Iterator[Tuple[int, slice]]:
    """Yield per image slices of the L positions of (N, C, L)."""
    count, classes, length = logits.shape
    step = max(1, PIECE.get(logits.device.type, PIECE['cuda']) // max(classes, 1))
    for n in range(count):
        for begin in range(0, length, step):
            yield n, slice(begin, min(begin + step, length))


def logits_of(student: Tensor, teacher: Tensor, weight: Optional[Tensor], tau: float, n: int,
              piece: slice) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
    """Logits of a chunk divided by ``tau``, (C, positions), 0 at positions of weight 0; and its
    weights."""
    s, t = student[n, :, piece], teacher[n, :, piece]
    w = None if weight is None else weight[n, piece]
    if w is not None:  # values at masked positions, even NaN, must not reach the sums
        is_masked = w == 0
        s, t = s.masked_fill(is_masked, 0), t.masked_fill(is_masked, 0)
    return (s, t, w) if tau == 1 else (s / tau, t / tau, w)


def probabilities(student: Tensor, teacher: Tensor, weight: Optional[Tensor], tau: float,
                  use_sigmoid: bool, n: int,
                  piece: slice) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
    """Probabilities of a chunk; see :func:`logits_of`."""
    s, t, w = logits_of(student, teacher, weight, tau, n, piece)
    return (s.sigmoid(), t.sigmoid(), w) if use_sigmoid else (torch.softmax(s, 0),
                                                              torch.softmax(t, 0), w)
