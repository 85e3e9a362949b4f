"""How are large logits gone through, so that what is computed on the way stays in the cache?"""
from typing import Iterator, Optional, Tuple

import torch
from torch import Tensor

PIECE = dict(cpu=1 << 18, cuda=1 << 24)
"""Elements of the logits that are looked at together: on a CPU, what fits the cache."""


TINY = 1e-30
"""Weight of all positions together, at least; nothing is divided by 0 where none is left."""


def as_maps(student: Tensor, teacher: Tensor,
            weight: Optional[Tensor]) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
    """Bring (N, C, *positions), or rows (M, C), to (N, C, L), and weights to (N, L)."""
    student, teacher = (one.flatten(2) if one.dim() > 2 else one.T.unsqueeze(0)
                        for one in (student, teacher))
    if weight is not None:
        weight = weight.flatten(1) if weight.dim() > 1 else weight.unsqueeze(0)
    return student, teacher, weight


def pieces(logits: Tensor) -> Iterator[Tuple[int, slice]]:
    """Image by image, slices of the L positions of (N, C, L)."""
    count, classes, length = logits.shape
    step = max(1, PIECE.get(logits.device.type, PIECE['cuda']) // max(classes, 1))
    for n in range(count):
        for begin in range(0, length, step):
            yield n, slice(begin, min(begin + step, length))


def logits_of(student: Tensor, teacher: Tensor, weight: Optional[Tensor], tau: float, n: int,
              piece: slice) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
    """Those of a piece over ``tau``, (C, positions), and its weights; 0 where the weights are."""
    s, t = student[n, :, piece], teacher[n, :, piece]
    w = None if weight is None else weight[n, piece]
    if w is not None:  # whatever stands at a masked position, even NaN, must not reach the sums
        is_masked = w == 0
        s, t = s.masked_fill(is_masked, 0), t.masked_fill(is_masked, 0)
    return (s, t, w) if tau == 1 else (s / tau, t / tau, w)


def probabilities(student: Tensor, teacher: Tensor, weight: Optional[Tensor], tau: float,
                  use_sigmoid: bool, n: int,
                  piece: slice) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
    """As :func:`logits_of`, activated."""
    s, t, w = logits_of(student, teacher, weight, tau, n, piece)
    return (s.sigmoid(), t.sigmoid(), w) if use_sigmoid else (torch.softmax(s, 0),
                                                              torch.softmax(t, 0), w)
