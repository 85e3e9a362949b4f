"""Sum of the squares over the channels, without a tensor of squares."""
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .eager import eager


def sum_of_squares(features: Tensor) -> Tensor:
    """Sum over the channels of the squares, at each position.

    Args:
        features (Tensor): Float (N, C, *positions).

    Returns:
        Tensor: (N, *positions).

    Example:
        >>> sum_of_squares(torch.tensor([[[3., 1.], [4., 2.]]]))
        tensor([[25.,  5.]])
    """
    result: Tensor = eager(_SumOfSquares.apply)(features)
    return result


class _SumOfSquares(torch.autograd.Function):
    """Saves only the features; the squares are computed image by image."""

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        ctx.save_for_backward(features)
        found = features.new_empty(len(features), *features.shape[2:])
        for image, into in zip(features, found):
            torch.sum(image.square(), 0, out=into)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        features, = ctx.saved_tensors
        return features * (2 * gradient).unsqueeze(1)
