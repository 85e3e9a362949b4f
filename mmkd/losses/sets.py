"""Boxes of sets of predictions, and the assignment of one set to another."""
from typing import List, Sequence, Tuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def corners(boxes: Tensor) -> Tensor:
    """Convert boxes (..., 4) from (cx, cy, w, h) to (x1, y1, x2, y2)."""
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], dim=-1)


def centred(boxes: Tensor) -> Tensor:
    """Convert boxes (..., 4) from (x1, y1, x2, y2) to (cx, cy, w, h)."""
    return torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]],
                     dim=-1)


def generalized_iou(boxes: Tensor, others: Tensor) -> Tuple[Tensor, Tensor]:
    """IoU and generalized IoU of boxes with others, whose shapes are broadcast.

    `Rezatofighi et al., 2019 <https://arxiv.org/abs/1902.09630>`_, algorithm 1. Boxes without an
    area have an IoU of 0.

    Args:
        boxes (Tensor): (..., 4), (x1, y1, x2, y2).
        others (Tensor): (..., 4).

    Returns:
        tuple[Tensor, Tensor]: (...) both.

    Example:
        >>> one, other = torch.tensor([0., 0., 2., 2.]), torch.tensor([[1., 0., 3., 2.]])
        >>> [value.item() for value in generalized_iou(one, other)]
        [0.3333333432674408, 0.3333333432674408]
    """
    common = _area(torch.minimum(boxes[..., 2:], others[..., 2:]) -
                   torch.maximum(boxes[..., :2], others[..., :2]))
    hull = _area(torch.maximum(boxes[..., 2:], others[..., 2:]) -
                 torch.minimum(boxes[..., :2], others[..., :2]))
    union = _area(boxes[..., 2:] - boxes[..., :2]) + _area(
        others[..., 2:] - others[..., :2]) - common
    iou = common / union.clamp(min=1e-12)
    return iou, iou - (hull - union) / hull.clamp(min=1e-12)


def _area(sides: Tensor) -> Tensor:
    """(...) of (..., 2); written out, because the gradient of `prod` makes the CPU wait."""
    width, height = sides.clamp(min=0).unbind(-1)
    return width * height


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
