"""Boxes of sets of predictions, and the assignment of one set to another."""
from typing import List, Sequence

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

TINY = 1e-12
"""Lower bound of areas that are divided by, as a share of the image."""


def corners(boxes: Tensor) -> Tensor:
    """Convert boxes (..., 4) from (cx, cy, w, h) to (x1, y1, x2, y2)."""
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], dim=-1)


def centred(boxes: Tensor) -> Tensor:
    """Convert boxes (..., 4) from (x1, y1, x2, y2) to (cx, cy, w, h)."""
    return torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]],
                     dim=-1)


@torch.no_grad()
def assigned(costs: Sequence[Tensor]) -> List[Tensor]:
    """Find the pairs of minimal total cost of each image (Hungarian algorithm), on the CPU.

    All costs are copied to the CPU at once, so a GPU is waited for once.

    Args:
        costs (Sequence[Tensor]): (Q, P) of each image. Costs that are not finite count as 0.

    Returns:
        list[Tensor]: int64 (2, min(Q, P)) of each image: numbers of rows and of columns.

    Raises:
        ImportError: If scipy is not installed.

    Example:
        >>> assigned([torch.tensor([[3., 1.], [0., 2.], [9., 9.]])])
        [tensor([[0, 1],
                [1, 0]])]
    """
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise ImportError('sets of predictions are assigned by scipy, which is not installed; '
                          'install it: pip install scipy') from error
    if not costs:
        return []
    flat = torch.cat([one.flatten() for one in costs]).nan_to_num(0., 0., 0.).cpu()
    pairs = [torch.as_tensor(linear_sum_assignment(part.view(one.shape).numpy()))
             for part, one in zip(flat.split([one.numel() for one in costs]), costs)]
    together = torch.cat(pairs, dim=1).to(costs[0].device, non_blocking=True)
    return list(together.split([one.shape[1] for one in pairs], dim=1))


def chosen(rows: Tensor, index: Tensor) -> Tensor:
    """The rows of (N, Q, C) by their numbers (N, K)."""
    return rows.gather(1, index.unsqueeze(2).expand(-1, -1, rows.shape[2]))


def focal(logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.) -> Tensor:
    """`Focal loss <https://arxiv.org/abs/1708.02002>`_ of each logit."""
    p = logits.sigmoid()
    off = (1 - p) * targets + p * (1 - targets)
    return (alpha * targets + (1 - alpha) * (1 - targets)) * off**gamma * (
        binary_cross_entropy_with_logits(logits, targets, reduction='none'))
