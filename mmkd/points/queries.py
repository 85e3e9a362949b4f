"""What is known of predictions that have no order?"""
from typing import NamedTuple

from torch import Tensor


class Queries(NamedTuple):
    """Predictions in no order, and what tells them apart."""
    logits: Tensor
    """Of the classes, (N, C, Q)."""
    where: Tensor
    """Boxes (N, 4, Q), (cx, cy, w, h) from 0 to 1, or logits of masks (N, Q, H, W)."""
    use_sigmoid: bool
    """What activates the classes' logits, else softmax."""
    coding: str = 'masks'
    """What ``where`` is, in words; only sets of one coding can be paired."""
