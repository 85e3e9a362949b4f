"""Base class of losses that relate the images of a batch to each other."""
import math
import warnings
from abc import abstractmethod
from typing import FrozenSet, Optional, Tuple

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from ..core.arguments import whole_number
from ..core.processes import world_size
from .across import gathered
from .base import DistillLoss, Value
from .fast.eager import eager


class ImageRelationLoss(DistillLoss):
    """Base class of losses of one row per image, for instance of the similarities of all images.

    A subclass implements :meth:`relate`. Channels and positions of the two sides may differ,
    because only relations are compared. At points of vectors (R, C), such as those of RoIs, each
    vector is a row.

    Args:
        grid (int, optional): Maps (N, C, H, W) are averaged to grid x grid values per channel
            before they are flattened to rows; 1 is global average pooling. None: maps are
            flattened as they are, which requires that those of all processes have one size.
        sync (bool): Whether the images of all processes are related to each other. Value and
            gradient are then those of one process with the whole batch.
        loss_weight (float): Factor of the result.

    Attributes:
        least (int): Number of images that have a relation. A batch of fewer counts 0, with a
            warning.
    """

    must_match: FrozenSet[str] = frozenset()
    communicates = True
    least = 2

    def __init__(self, grid: Optional[int], sync: bool, loss_weight: float) -> None:
        super().__init__(loss_weight)
        if not isinstance(sync, bool):
            raise TypeError(f'`sync` must be True or False, but got {sync!r}; write one of the two')
        self.grid = None if grid is None else whole_number('grid', grid, least=1)
        self.sync = self.communicates = sync

    def compare(self, student: Tensor, teacher: Tensor) -> Value:
        rows, others = self.rows(student), self.rows(teacher)
        if self.sync and world_size() > 1:
            rows, others = gathered_pair(rows, others)
        if len(rows) >= self.least:
            # A few numbers; compiled, distances that cancel differ in their gradient.
            value: Value = eager(self.relate)(rows, others)
            return value
        if len(rows):
            warnings.warn(f'{type(self).__name__} compares {self.least} or more images with each '
                          f'other, but the batch has {len(rows)}, so the loss is 0; increase the '
                          'batch '
                          'size' + ('' if self.sync else ', or write `sync=True`'), stacklevel=2)
        return self.nothing(rows.sum() * 0)

    def rows(self, features: Tensor) -> Tensor:
        """(N, C, *positions) to one row per image; maps without positions have none."""
        if features.numel() == 0:
            width = math.prod(features.shape[1:]) if self.grid is None or features.dim() != 4 else (
                features.shape[1] * self.grid**2)
            return features.flatten(1).sum(1, keepdim=True).expand(-1, width)[:0]
        if self.grid is None or features.dim() != 4:
            return features.flatten(1)
        if self.grid == 1:
            return features.mean((2, 3))
        return adaptive_avg_pool2d(features, self.grid).flatten(1)

    def nothing(self, zero: Tensor) -> Value:
        """The value of too few images: a zero, with the names of the parts where there are any."""
        return zero

    @abstractmethod
    def relate(self, student: Tensor, teacher: Tensor) -> Value:
        """The formula.

        Args:
            student (Tensor): Float (B, D), one row per image, of all processes.
            teacher (Tensor): (B, E), without gradient.
        """


def gathered_pair(student: Tensor, teacher: Tensor) -> Tuple[Tensor, Tensor]:
    """The rows of all processes, in one exchange."""
    widths = [student.shape[1], teacher.shape[1]]
    rows, others = gathered(torch.cat([student, teacher], 1)).split(widths, 1)
    return rows, others.detach()
