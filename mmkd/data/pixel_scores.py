"""How probable is the label of a pixel, by the outputs of a segmentor?"""
from typing import Any, Optional, Sequence, Tuple

import torch
from torch import Tensor

from ..core.names import joined

IGNORED = 255
"""Label of a pixel without label, as in mmseg's losses and metrics."""
Groups = Sequence[Tuple[int, ...]]
"""For each class of another model its classes in a prediction."""
SCORINGS = 'softmax', 'share'
"""What :func:`pixel_scores` makes of the outputs of a segmentor."""


def pixel_scores(outputs: Tensor, scoring: str = 'softmax', groups: Optional[Groups] = None,
                 chosen: Optional[Tensor] = None) -> 'tuple[Tensor, Tensor]':
    """The most probable class of each pixel, and its probability.

    Args:
        outputs (Tensor): (C, H, W), ``seg_logits`` of a prediction.
        scoring (str): 'softmax' over the classes; 'share' for the scores of mask transformers,
            which are not logits: the sum over masks of class probability times mask probability,
            divided by its sum over the classes. One output is the probability of label 1, as
            mmseg's ``predict`` returns it, for both. Defaults to 'softmax'.
        groups (Sequence[tuple[int]], optional): For each class of another model its classes here,
            whose probabilities add up, () for none. A class that is in no group keeps its own
            column; where it is the most probable, the label is 255. Defaults to None, the same
            classes.
        chosen (Tensor, optional): Int (1, H, W), the label that the model chooses where there is
            one output: heads of mmseg have a threshold of their own. Defaults to None: label 1
            above 0.5.

    Returns:
        tuple[Tensor, Tensor]: float32 and int64, (H, W).

    Raises:
        ValueError: If ``scoring`` is unknown.

    Example:
        >>> logits = torch.tensor([1., 3.]).log()[:, None, None]
        >>> scores, labels = pixel_scores(logits)
        >>> round(float(scores), 4), int(labels)
        (0.75, 1)
        >>> cat_tiger_dog = torch.tensor([.3, .3, .4]).log()[:, None, None]
        >>> scores, labels = pixel_scores(cat_tiger_dog, groups=[(2, ), (0, 1)])
        >>> round(float(scores), 4), int(labels)
        (0.6, 1)
    """
    if scoring not in SCORINGS:
        raise ValueError(f'`scoring` must be one of {joined(SCORINGS)}, but got {scoring!r}')
    outputs = outputs.float()
    if len(outputs) == 1:
        is_second = outputs > 0.5 if chosen is None else chosen > 0
        scores, labels = torch.where(is_second, outputs, 1 - outputs)[0], is_second[0].long()
        return scores, labels if groups is None else _numbers(groups, 2, labels)[labels]
    if scoring == 'softmax':
        probabilities = outputs.softmax(0)
    else:
        probabilities = outputs / outputs.sum(0).clamp(min=torch.finfo(outputs.dtype).tiny)
    if groups is None:
        scores, labels = probabilities.max(0)
        return scores, labels
    rows = [list(group) for group in groups if group]
    known = {column for row in rows for column in row}
    rows += [[column] for column in range(len(outputs)) if column not in known]
    scores, best = torch.stack([probabilities[row].sum(0) for row in rows]).max(0)
    return scores, _numbers(groups, len(outputs), outputs)[[row[0] for row in rows]][best]


def _numbers(groups: Groups, count: int, like: Tensor) -> Tensor:
    """For each class of a prediction its class of the other model, int64; 255 for none."""
    number_of = torch.full((count, ), IGNORED, dtype=torch.long, device=like.device)
    for number, group in enumerate(groups):
        number_of[list(group)] = number
    return number_of


def scoring_of(model: Any) -> str:
    """How the outputs of a segmentor become probabilities, for :func:`pixel_scores`.

    Args:
        model (nn.Module): A segmentor of mmseg, or any other model.

    Returns:
        str: 'share' for heads of mask transformers (MaskFormer, Mask2Former, SAN), 'softmax'
        otherwise.
    """
    heads = getattr(model, 'decode_head', None)
    head = heads[-1] if isinstance(heads, torch.nn.ModuleList) else heads
    if head is None:
        return 'softmax'
    from mmseg.models.decode_heads import SideAdapterCLIPHead
    from mmseg.models.decode_heads.decode_head import BaseDecodeHead
    is_share = not isinstance(head, BaseDecodeHead) or isinstance(head, SideAdapterCLIPHead)
    return 'share' if is_share else 'softmax'
