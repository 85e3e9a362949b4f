"""ReviewKD: fused features of several levels are compared with the teacher's (Chen et al., 2021).

:Paper: `Distilling Knowledge via Knowledge Review <https://arxiv.org/abs/2104.09044>`_, CVPR 2021,
    sections 3.2 and 3.3 (their numbers are from memory).
:Compares: all levels of the neck, or of the backbone.
:Defaults: 256 channels for the fusion, factor 1: the authors' for detectors. The sizes and weights
    of HCL are those of their code.
:Differs: maps of another size: the teacher's are interpolated to the student's; the authors
    interpolate the student's fused features. A batch norm in training passes over a single value
    per channel, where torch's raises an error.
:Published: Faster R-CNN R50, Faster R-CNN R101 (42.0), detectron2 2x: 37.93 -> 40.36 (from memory).
"""
from typing import List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, batch_norm, interpolate, mse_loss

from ..core.arguments import whole_number
from ..core.table import LOSSES
from .base import DistillLoss
from .method import Method


class Norm(nn.BatchNorm2d):
    """Batch norm that takes a single value per channel, by the running statistics.

    The deepest map of a batch of one small image may be 1x1. torch's raises an error there.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.training and input.numel() == input.shape[1]:
            return batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias,
                              eps=self.eps)
        return super().forward(input)


class ABF(nn.Module):
    """Attention based fusion of one level with the fusion of the deeper ones (figure 3a).

    Args:
        student_channels (int): Of the student's features of this level.
        mid_channels (int): In which levels are fused.
        teacher_channels (int): Of the teacher's features of this level.
        is_deepest (bool): Whether there is nothing to fuse with.
    """

    def __init__(self, student_channels: int, mid_channels: int, teacher_channels: int,
                 is_deepest: bool) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Conv2d(student_channels, mid_channels, 1, bias=False),
                                   Norm(mid_channels))
        self.attention = None if is_deepest else nn.Conv2d(2 * mid_channels, 2, 1)
        self.leave = nn.Sequential(
            nn.Conv2d(mid_channels, teacher_channels, 3, padding=1, bias=False),
            Norm(teacher_channels))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d) and layer is not self.attention:
                nn.init.kaiming_uniform_(layer.weight, a=1)

    def forward(self, student: Tensor, deeper: Optional[Tensor] = None) -> Tuple[Tensor, Tensor]:
        """What is compared with the teacher, and what the next shallower level is fused with.

        Args:
            student (Tensor): (N, student_channels, H, W).
            deeper (Tensor, optional): (N, mid_channels, h, w), the second result of the next
                deeper level. Defaults to None, for the deepest.

        Returns:
            tuple[Tensor, Tensor]: (N, teacher_channels, H, W) and (N, mid_channels, H, W).
        """
        fused = self.enter(student)
        if self.attention is not None and deeper is not None:
            deeper = interpolate(deeper, fused.shape[2:], mode='nearest')
            own, other = self.attention(torch.cat([fused, deeper], 1)).sigmoid().split(1, 1)
            fused = own * fused + other * deeper
        return self.leave(fused), fused


@LOSSES.register
class ReviewKDLoss(DistillLoss):
    r"""Knowledge review with the residual learning framework, ABF and HCL.

    `Distilling Knowledge via Knowledge Review <https://arxiv.org/abs/2104.09044>`_ (Chen et al.,
    CVPR 2021), sections 3.2 and 3.3. From the deepest level n to the shallowest, the student's
    features :math:`F_s^i` are fused with those of all deeper levels, and compared with the
    teacher's :math:`F_t^i`:

    .. math::
        L = \sum_{i=1}^{n} D(\psi_i(G_i), F_t^i), \quad
        G_n = \phi_n(F_s^n), \quad
        G_i = a_i \odot \phi_i(F_s^i) + b_i \odot U(G_{i+1}), \quad
        (a_i, b_i) = \sigma(A_i [\phi_i(F_s^i), U(G_{i+1})])

    where :math:`\phi` is a 1x1 convolution with batch norm to ``mid_channels``, :math:`\psi` a 3x3
    one to the teacher's channels, *A* a 1x1 convolution to two maps, and *U* enlarges to the next
    neighbour. The hierarchical context loss *D* (HCL) compares by the mean squared difference, at
    several sizes :math:`c_0, c_1, \dots` of the map:

    .. math::
        D(F, T) = \frac{\sum_k 2^{-k} \, \mathrm{MSE}(P_{c_k} F, P_{c_k} T)}{\sum_k 2^{-k}}

    where :math:`P_c` is the average pooling to c x c. A size that is not below height and width is
    left out, and the following sizes move up. Sizes and weights are those of the authors' code; the
    paper gives none.

    Levels are given from the shallowest to the deepest. Where the teacher's maps have another size,
    they are interpolated to the student's; the authors interpolate the student's fused features.

    .. code-block:: python

        distill=[dict(type='mmkd.ReviewKDLoss', on='neck')]

    or ``tools/train.py STUDENT.py --teacher TEACHER.py --method reviewkd``.

    Args:
        mid_channels (int): Width in which levels are fused. Defaults to 256, as the authors' for
            detectors.
        context (Sequence[int | None]): The sizes of HCL, in the order of their weights 1, 1/2,
            1/4, ...; None is the unpooled map. Defaults to (None, 4, 2, 1).
        loss_weight (float): Factor of the result. Defaults to 1.0, the authors' for RetinaNet.

    Example:
        >>> loss = ReviewKDLoss(mid_channels=8, context=(None, 2, 1))
        >>> loss.levels
        'all'
    """

    must_match = frozenset({'positions'})
    levels = 'all'

    def __init__(self, mid_channels: int = 256,
                 context: Sequence[Optional[int]] = (None, 4, 2, 1),
                 loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.mid_channels = whole_number('mid_channels', mid_channels, least=1)
        self.context = tuple(one if one is None else whole_number('context', one, least=1)
                             for one in context)
        if not self.context:
            raise ValueError('`context` must have a size, but got none; write (None, 4, 2, 1)')

    def setup(self, student_channels: List[int], teacher_channels: List[int]) -> None:
        deepest = len(student_channels) - 1
        self.fusions = nn.ModuleList(
            ABF(own, self.mid_channels, other, level == deepest)
            for level, (own, other) in enumerate(zip(student_channels, teacher_channels)))

    def compare(self, student: List[Tensor], teacher: List[Tensor]) -> Tensor:
        each: List[Tensor] = []
        deeper: Optional[Tensor] = None
        for fusion, own, other in reversed(list(zip(self.fusions, student, teacher))):
            reviewed, deeper = fusion(own, deeper)
            each.append(self.hierarchical_context(reviewed, other))
        return torch.stack(each).sum()

    def hierarchical_context(self, student: Tensor, teacher: Tensor) -> Tensor:
        """HCL of one level: two (N, C, H, W) to a scalar."""
        values: List[Tensor] = []
        weights: List[float] = []
        for size in self.context:
            if size is not None and size >= min(student.shape[2:]):
                continue
            one, other = (x if size is None else adaptive_avg_pool2d(x, size)
                          for x in (student, teacher))
            weights.append(0.5**len(weights))
            values.append(weights[-1] * mse_loss(one, other))
        if not values:  # a map as small as every size
            return mse_loss(student, teacher)
        return torch.stack(values).sum() / sum(weights)


METHOD = Method('reviewkd', [dict(type='mmkd.ReviewKDLoss', on=('neck', 'backbone'))],
                classifier=[dict(type='mmkd.ReviewKDLoss', on='backbone')])
