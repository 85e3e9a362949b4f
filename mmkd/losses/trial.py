"""Can a loss teach anything on tensors of given shapes?"""
import copy
import math
from typing import Any, List, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor

from ..core.processes import alone
from ..core.rng import preserved_rng
from .base import DistillLoss

SCALES = (1., 10., 0.1, 1e-3)
"""Standard deviations of the numbers that are tried. A loss may be flat where its input is large,
or where it is small; one that is flat for all of them is taken to be constant."""

POSITIONS = 4
"""At so many positions a loss is tried at least: over one, or two, correlations are constant, and
a larger batch has more."""

MOST = 16
"""Height and width, at most, of the maps that are tried: quick, also for a thousand classes."""

NOISE = 1e-10
"""A gradient is rounding noise if its norm is at most this share of the loss (in float64)."""


class Limits(NamedTuple):
    """What a loss cannot teach where it is used."""
    is_constant: bool
    """Whether it cannot teach anything."""
    notes: List[str]
    """What is left out, and what to use instead."""


def limits_of(loss: DistillLoss, shapes: Sequence[Tuple[int, ...]]) -> Limits:
    """What a loss cannot teach on levels of given shapes, (N, C, *positions)."""
    notes = list(dict.fromkeys(note for shape in shapes for note in loss.notes(shape[1])))
    if not is_constant(loss, shapes):
        return Limits(False, notes)
    return Limits(True, [f'{type(loss).__name__} has a gradient of 0 whatever both sides predict',
                         *(notes or ['use another loss, for instance mmkd.MSELoss, or another '
                                     'point'])])


def is_constant(loss: DistillLoss, shapes: Sequence[Tuple[int, ...]]) -> bool:
    """Whether a loss has no gradient for the student, whatever both sides predict.

    It is tried on random numbers, on the CPU and in float64, so that a gradient of exactly 0 is
    found as 0; maps are cut to a few positions. A copy is tried, at a ``loss_weight`` of 1. The
    random numbers of the run are not touched.

    Args:
        loss (DistillLoss): The loss.
        shapes (Sequence[tuple[int, ...]]): Shapes of the levels that it compares, (N, C,
            *positions).

    Returns:
        bool: False also where it cannot be told, because the loss does not take such numbers.
    """
    if not shapes:
        return False
    generator = torch.Generator().manual_seed(0)
    try:
        # A loss may draw random numbers of its own; other processes are not there to answer.
        with preserved_rng(), alone():
            tried: Any = copy.deepcopy(loss).cpu()
            tried.loss_weight = 1.
            if getattr(tried, 'sync', False):
                tried.sync = False
            for scale in SCALES:
                student, teacher = (
                    [scale * torch.randn(size_for(shape), generator=generator, dtype=torch.float64)
                     for shape in shapes] for _ in range(2))
                if _has_gradient(tried, student, teacher):
                    return False
    except Exception:  # other numbers than a model's may be no input for it
        return False
    return True


def _has_gradient(loss: DistillLoss, student: List[Tensor], teacher: List[Tensor]) -> bool:
    with torch.enable_grad():
        for level in student:
            level.requires_grad_()
        values = loss(student, teacher)
        assert isinstance(values, list)
        total = torch.stack(values).sum()
        if not total.requires_grad:
            return False
        gradients = torch.autograd.grad(total, student, allow_unused=True)
    norm = sum(one.square().sum() for one in gradients if one is not None) ** 0.5
    return not norm <= NOISE * total.detach().abs()


def size_for(shape: Tuple[int, ...]) -> Tuple[int, ...]:
    """In what shape a level is tried."""
    count, channels, *rest = shape
    is_enough = count * math.prod(rest) >= POSITIONS
    return (count if is_enough else POSITIONS, channels, *(min(one, MOST) for one in rest))
