"""Which positions of a point are background, by the labels of its loss?"""
from typing import List, Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from .labels import arranged


def background_of(labels: Sequence[Tensor], level_shapes: Sequence[torch.Size],
                  anchors: int, is_by_image: bool = False) -> List[Tensor]:
    """Weights of positions, 1 where a label is background, for the levels of a point.

    Args:
        labels (Sequence[Tensor]): Bool, per call of the loss: (N, H, W) of any size for a
            segmentor; otherwise flat, in the order of image, height, width, anchor, level by level.
        level_shapes (Sequence[torch.Size]): (R, C), or (N·anchors, C, H, W).
        anchors (int): Number of anchors per position.
        is_by_image (bool): See :func:`mmkd.points.labels.arranged`. Defaults to False.

    Returns:
        list[Tensor]: Float (R,) or (N·anchors, H, W), one per level.

    Raises:
        ValueError: If the numbers of labels and positions differ.
    """
    if labels and labels[0].dim() == 3:
        return [interpolate(labels[0].float().unsqueeze(1), size=shape[2:]).squeeze(1)
                for shape in level_shapes]
    try:
        return [one.float() for one in arranged(labels, level_shapes, anchors, is_by_image)]
    except ValueError as error:
        raise ValueError(f"`replaces='background'` needs labels: {error}, or write `replaces='all'`"
                         ) from error
