"""Classes and places of unordered predictions."""
from typing import NamedTuple

from torch import Tensor


class Queries(NamedTuple):
    """An unordered set of predictions."""
    logits: Tensor
    """Class logits (N, C, Q)."""
    where: Tensor
    """Boxes (N, 4, Q), (cx, cy, w, h) from 0 to 1, or logits of masks (N, Q, H, W)."""
    use_sigmoid: bool
    """Whether the activation of the class logits is sigmoid, or softmax."""
    coding: str = 'masks'
    """Description of ``where``; only sets of equal coding can be paired."""
