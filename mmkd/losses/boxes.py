"""How far apart are two boxes? Shared by the losses that compare or weigh boxes."""
from typing import Tuple

import torch
from torch import Tensor

TINY = 1e-6
"""Lower bound of areas and squared lengths that are divided by, in pixels²."""


def iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of boxes with each of K others; 0 for boxes without an area.

    Args:
        boxes (Tensor): (..., 4), x1, y1, x2, y2.
        others (Tensor): (K, 4).

    Returns:
        Tensor: (..., K).

    Example:
        >>> iou(torch.tensor([0., 0., 2., 2.]), torch.tensor([[0., 0., 2., 2.], [1., 0., 3., 2.]]))
        tensor([1.0000, 0.3333])
    """
    return aligned_iou(boxes.unsqueeze(-2), others)


def diou(boxes: Tensor, others: Tensor) -> Tensor:
    """IoU less the squared distance of the centres, divided by the squared diagonal of the smallest
    box around both.

    `Distance-IoU Loss <https://arxiv.org/abs/1911.08287>`_, equation 6.

    Args:
        boxes (Tensor): (..., 4), x1, y1, x2, y2.
        others (Tensor): (K, 4).

    Returns:
        Tensor: (..., K), greater than -1 and at most 1.
    """
    boxes = boxes.unsqueeze(-2)
    x, y = ((boxes[..., one] + boxes[..., one + 2] - others[..., one] - others[..., one + 2]) / 2
            for one in (0, 1))
    width, height = _around(boxes, others)
    return aligned_iou(boxes, others) - (x.square() + y.square()) / (
        width.square() + height.square()).clamp(min=TINY)


def aligned_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of each box with the one at its place: (..., 4) twice, (...)."""
    common, union = _areas(boxes, others, TINY)
    return common / union


def aligned_giou(boxes: Tensor, others: Tensor) -> Tensor:
    """Generalized IoU of each box with the one at its place.

    `Generalized Intersection over Union <https://arxiv.org/abs/1902.09630>`_, algorithm 1: IoU less
    the share of the smallest box around both that neither of them covers.

    Args:
        boxes (Tensor): (..., 4), x1, y1, x2, y2.
        others (Tensor): The same shape.

    Returns:
        Tensor: (...), greater than -1 and at most 1.

    Example:
        >>> aligned_giou(torch.tensor([[0., 0., 1., 1.]]), torch.tensor([[2., 0., 3., 1.]]))
        tensor([-0.3333])
    """
    return generalized_iou(boxes, others)[1]


def generalized_iou(boxes: Tensor, others: Tensor, tiny: float = TINY) -> Tuple[Tensor, Tensor]:
    """IoU and generalized IoU of boxes with others, whose shapes are broadcast.

    Args:
        boxes (Tensor): (..., 4), x1, y1, x2, y2.
        others (Tensor): (..., 4).
        tiny (float): Lower bound of areas that are divided by, in the unit of the boxes, squared.
            Defaults to :data:`TINY`, for pixels.

    Returns:
        tuple[Tensor, Tensor]: (...) both.

    Example:
        >>> one, other = torch.tensor([0., 0., 2., 2.]), torch.tensor([[1., 0., 3., 2.]])
        >>> [value.item() for value in generalized_iou(one, other)]
        [0.3333333432674408, 0.3333333432674408]
    """
    common, union = _areas(boxes, others, tiny)
    width, height = _around(boxes, others)
    around = (width * height).clamp(min=tiny)
    return common / union, common / union - (around - union) / around


def as_rows(level: Tensor) -> Tensor:
    """Boxes (N, 4, *positions) as (N, *positions, 4), without a copy."""
    return level.movedim(1, -1)


# Products are written out: the gradient of `prod` makes the CPU wait for a GPU.


def _areas(boxes: Tensor, others: Tensor, tiny: float) -> Tuple[Tensor, Tensor]:
    """Area of the intersection, and of the union."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = (side.unbind(-1) for side in (boxes, others))
    common = ((torch.minimum(x2, u2) - torch.maximum(x1, u1)).clamp(min=0) *
              (torch.minimum(y2, v2) - torch.maximum(y1, v1)).clamp(min=0))
    areas = ((x2 - x1).clamp(min=0) * (y2 - y1).clamp(min=0) +
             (u2 - u1).clamp(min=0) * (v2 - v1).clamp(min=0))
    return common, (areas - common).clamp(min=tiny)


def _around(boxes: Tensor, others: Tensor) -> Tuple[Tensor, Tensor]:
    """Width and height of the smallest box around both."""
    width, height = (torch.maximum(boxes[..., side + 2], others[..., side + 2]) -
                     torch.minimum(boxes[..., side], others[..., side]) for side in (0, 1))
    return width, height
