"""Classes and places of unordered predictions."""
from typing import NamedTuple, Optional, Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate


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


def class_map(queries: Queries, size: Optional[Sequence[int]] = None) -> Tensor:
    """Log-probabilities of the classes per pixel, from queries with masks.

    The logits of the masks are interpolated before the sigmoid, as ``predict`` of mmdet and mmseg
    does it. So in the size of the network's input the result is the share of each class in the
    scores of ``predict``, and no map of this size is needed for a smaller one.

    Args:
        queries (Queries): Their last class is "no object".
        size (Sequence[int], optional): Height and width of the result. Defaults to None, those of
            the masks.

    Returns:
        Tensor: (N, C, H, W), without the class "no object".

    Example:
        >>> queries = Queries(torch.zeros(1, 4, 2), torch.zeros(1, 2, 8, 8), use_sigmoid=False)
        >>> class_map(queries, (16, 24)).shape
        torch.Size([1, 3, 16, 24])
    """
    # Without autocast: half precision has no number for the scores of unlikely classes.
    classes, masks = queries.logits.float().softmax(dim=1)[:, :-1], queries.where.float()
    if size is not None and tuple(size) != tuple(masks.shape[2:]):
        masks = interpolate(masks, size=tuple(size), mode='bilinear', align_corners=False)
    with torch.autocast(masks.device.type, enabled=False):
        scores = torch.einsum('ncq,nqhw->nchw', classes, masks.sigmoid())
    return scores.clamp(min=torch.finfo(scores.dtype).tiny).log().log_softmax(dim=1)
