"""How do the probabilities of several classes add up to that of one?"""
from typing import Sequence, Tuple

import torch
from torch import Tensor

Groups = Tuple[Tuple[int, ...], ...]
"""Columns that are added up to one, for each column of the result."""

SMALL = -40.
"""Below this, log(1 + exp(x)) and exp(x) are equal in float64."""


def merged(logits: Tensor, groups: Sequence[Sequence[int]], dim: int,
           use_sigmoid: bool) -> Tensor:
    r"""Logits of classes that consist of several others.

    Softmax: the classes exclude each other, so their probabilities are added up,
    :math:`p = \sum_k p_k`, with the logit :math:`z = \log \sum_k e^{z_k}`.

    Sigmoid: each class is a probability of its own, and their sum may exceed 1. The object belongs
    to the whole if it belongs to any part, :math:`p = 1 - \prod_k (1 - p_k)`, with the logit
    :math:`z = \log(e^y - 1)`, :math:`y = \sum_k \log(1 + e^{z_k})`. For small probabilities this
    is their sum.

    The logits are those at temperature 1; a loss divides the result by its temperature.

    Args:
        logits (Tensor): Float (..., K, ...).
        groups (Sequence[Sequence[int]]): Numbers of the columns of each class, none empty.
        dim (int): Dimension of the columns.
        use_sigmoid (bool): Whether the classes are independent of each other (sigmoid), or exclude
            each other (softmax).

    Returns:
        Tensor: (..., len(groups), ...), of the same dtype.

    Example:
        >>> logits = torch.tensor([0.1, 0.2, 0.7]).log()
        >>> [round(p, 3) for p in merged(logits, [(0, 2), (1,)], 0, False).softmax(0).tolist()]
        [0.8, 0.2]
        >>> logits = torch.tensor([0.5, 0.5]).logit()
        >>> round(merged(logits, [(0, 1)], 0, True).sigmoid().item(), 3)
        0.75
    """
    together = any_of if use_sigmoid else torch.logsumexp
    return torch.stack([
        logits.select(dim, group[0]) if len(group) == 1 else
        together(torch.stack([logits.select(dim, one) for one in group], dim), dim)
        for group in groups], dim)


def any_of(logits: Tensor, dim: int) -> Tensor:
    """Logit of the probability that at least one of several independent events happens.

    Args:
        logits (Tensor): Float, logits of the events in dimension ``dim``.
        dim (int): The dimension.

    Returns:
        Tensor: Without this dimension; finite for finite logits.
    """
    # y is the sum of log(1 + exp(z)). It may be too small for a float, so its logarithm is used.
    # Values are clamped where they are not used, so that gradients are finite.
    zero = logits.new_zeros(())
    soft = torch.logaddexp(logits.clamp(min=SMALL), zero).log()
    log_y = torch.logsumexp(torch.where(logits < SMALL, logits, soft), dim)
    y = log_y.clamp(min=SMALL).exp()
    return torch.where(log_y < SMALL, log_y, y + (-torch.expm1(-y)).log())
