"""Which parameters does the constructor of a model leave unwritten? They get random values.

Some models, such as Deformable DETR, have parameters that are uninitialized memory until
``init_weights`` is called, which may also read or download files of ``init_cfg``.
"""
import math
from contextlib import contextmanager
from typing import Iterator

import torch
from torch import nn

from .rng import preserved_rng, seed_from

LARGEST = math.inf if hasattr(torch.utils, 'deterministic') else 1e3
"""A value that is not below it is taken for unwritten. Before torch 2.2, memory is not marked."""


@contextmanager
def marked_memory() -> Iterator[None]:
    """New tensors on the CPU are NaN inside the block until they are written."""
    was, warns = (torch.are_deterministic_algorithms_enabled(),
                  torch.is_deterministic_algorithms_warn_only_enabled())
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was, warn_only=warns)


@torch.no_grad()
def fill_unwritten(model: nn.Module) -> None:
    """Draw the parameters that were not written, normal with a standard deviation of 0.02.

    The same model gets the same values, and the random number generators are not changed.

    Args:
        model (nn.Module): Built inside :func:`marked_memory`.
    """
    with preserved_rng():
        for number, parameter in enumerate(model.parameters()):
            if not (parameter.abs() < LARGEST).all():  # also for NaN
                seed_from(number)
                parameter.normal_(std=0.02)
