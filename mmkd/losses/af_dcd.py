"""Af-DCD: masked features generate the teacher's, and each finds its own (Fan et al., 2023).

:Paper: `Augmentation-Free Dense Contrastive Knowledge Distillation for Efficient Semantic
    Segmentation <https://arxiv.org/abs/2312.04168>`_, NeurIPS 2023, section 3.
:Compares: Segmentors: the last level of the backbone, and by KD the logits of the decode head.
:Defaults: The authors' code (``losses/ocmgd.py``, commit 5b086a7) and their scripts for Cityscapes:
    weights 2e-6 (features), 5e-3 (contrast) and 1 (KD, tau 1); 75 % masked; temperature 0.07, 16
    groups of channels, maps pooled 4 times and cut into patches of 4x4; gradients of the layers
    clipped at a norm of 15. For CamVid they have 8e-6 and 0.01, without pooling.
:Differs: The script for DeepLabV3-R18 uses the enhanced generator and a mask at the centre, by
    options that its parser does not know; spelt as it knows them, "False" is read as True, so the
    mask is random. The default here is the plain generator, as in the other scripts;
    ``enhanced=True`` is the other. Their code fails where both sides have equal widths; here there
    is no 1x1 convolution then. A map that cannot be cut into patches loses its last rows and
    columns, as theirs for CamVid (45x45 to 44x44), and a map that is too small for the pooling is
    pooled less; theirs fails. The mask has a generator of its own, seeded from the seed of the run,
    the process, and the iteration.
:Published: DeepLabV3 R18, DeepLabV3 R101 (78.07), 40k: 74.21 -> 77.03 (authors' README); DeepLabV3
    MobileNetV2, the same: 73.12 -> 76.43 (authors' README), both on Cityscapes val; DeepLabV3 R18,
    DeepLabV3 R101 (42.70) on ADE20K: 33.91 -> 36.21 (authors' README)
"""
from math import gcd
from typing import Dict, Tuple

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from ..core.arguments import finite_number, temperature, whole_number
from ..core.rng import generator_of
from ..core.table import LOSSES
from .base import DistillLoss
from .fast.eager import eager
from .method import Method

BUFFER = 1 << 26
"""Largest number of elements of the buffer that torch fills on a GPU in the backward pass of one
`cdist`: as many as pairs of samples, times the channels of a sample."""


class Enhanced(nn.Module):
    """The mean of a generator of two 3x3 convolutions and one of three, which share the first.

    Args:
        channels (int): C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second, self.from_first, self.from_second = (
            nn.Conv2d(channels, channels, 3, padding=1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        once = self.first(x).relu_()
        twice = self.second(once).relu_()
        result: Tensor = (self.from_first(once) + self.from_second(twice)) / 2
        return result


@LOSSES.register
class AfDCDLoss(DistillLoss):
    r"""Masked feature generation, with a contrast over positions and groups of channels.

    `Augmentation-Free Dense Contrastive Knowledge Distillation for Efficient Semantic Segmentation
    <https://arxiv.org/abs/2312.04168>`_, section 3. A 1x1 convolution A brings the
    student to the teacher's width, a mask M sets positions to zero, and a generator G, two 3x3
    convolutions with a ReLU between, makes the teacher's features:

    .. math:: \hat F = G(M \odot A(F^S)), \quad L_{fd} = \lambda_{fd} \frac{1}{N}
        \sum_{n,c,h,w} (\hat F - F^T)^2

    For the contrast, both maps are pooled by their maximum and cut into patches of p x p positions;
    the channels are cut into groups. A sample :math:`x_{i,m}` is group m of position i. In each
    patch, a sample of the student is to find the same sample of the teacher among those of all
    other groups, by the distance :math:`d(x, y) = \sum |x - y|`:

    .. math:: L_{ctr} = - \lambda_{ctr} \frac{1}{N H W} \sum_{i,m} \log
        \frac{\exp(-d(\hat x_{i,m}, x^T_{i,m}) / \tau)}{\exp(-d(\hat x_{i,m}, x^T_{i,m}) / \tau) +
        \sum_{j} \sum_{k \neq m} \exp(-d(\hat x_{i,m}, x^T_{j,k}) / \tau)}

    where H x W is the size of the pooled map. It returns the parts 'feature' and 'contrast'.

    Args:
        lambda_fd (float): Weight of 'feature'. Defaults to 2e-6.
        lambda_ctr (float): Weight of 'contrast'. Defaults to 5e-3.
        masked (float): Fraction of positions that is set to zero, from 0 to 1. Defaults to 0.75.
        enhanced (bool): Whether G is the mean of two and of three convolutions, which share the
            first. Defaults to False.
        tau (float): :math:`\tau`, greater than 0. Defaults to 0.07.
        groups (int): Number of groups of channels; where it does not divide the teacher's, their
            greatest common divisor. Defaults to 16.
        pool (int): Positions in a square of this length are pooled; 1 for none. Defaults to 4.
        patch (int): p. Defaults to 4.
        clip_norm (float, optional): Maximum norm of the gradient of A and G. None for no clipping.
            Defaults to 15.0.
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is out of range, or ``groups`` has no common divisor with the
            teacher's channels; when called, if the features are not maps (N, C, H, W).

    Example:
        >>> loss = AfDCDLoss(groups=2, pool=1)
        >>> loss.setup(4, 6)
        >>> sorted(loss(torch.randn(2, 4, 8, 8), torch.randn(2, 6, 8, 8), iteration=0))
        ['contrast', 'feature']
    """

    must_match = frozenset({'positions'})
    layers_in = 'autocast'  # the generator is as heavy as a head

    def __init__(self, lambda_fd: float = 2e-6, lambda_ctr: float = 5e-3, masked: float = 0.75,
                 enhanced: bool = False, tau: float = 0.07, groups: int = 16, pool: int = 4,
                 patch: int = 4, clip_norm: float = 15.0, loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.lambda_fd = finite_number('lambda_fd', lambda_fd, least=0)
        self.lambda_ctr = finite_number('lambda_ctr', lambda_ctr, least=0)
        self.masked = finite_number('masked', masked, least=0)
        if self.masked > 1:
            raise ValueError(f'`masked` must be between 0 and 1, but got {masked}; write the '
                             'fraction that is set to zero, such as 0.75')
        self.tau, self.enhanced = temperature(tau), enhanced
        self.groups, self.pool, self.patch = (
            whole_number(name, value, least=1)
            for name, value in dict(groups=groups, pool=pool, patch=patch).items())
        self.clip_norm = None if clip_norm is None else finite_number('clip_norm', clip_norm,
                                                                      least=0)

    def setup(self, student_channels: int, teacher_channels: int) -> None:
        width = teacher_channels
        if self.groups > 1 == gcd(self.groups, width):
            raise ValueError('AfDCDLoss splits the channels of the teacher into groups, but '
                             f'{width} channels and `groups={self.groups}` have no common divisor; '
                             'write a number of groups that divides them')
        self.groups = gcd(self.groups, width)
        self.align = nn.Identity() if student_channels == width else (
            nn.Conv2d(student_channels, width, 1))
        self.generator = Enhanced(width) if self.enhanced else nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1))

    def compare(self, student: Tensor, teacher: Tensor, *, iteration: int) -> Dict[str, Tensor]:
        if student.dim() != 4:
            raise ValueError(f'AfDCDLoss generates maps (N, C, H, W), but got '
                             f"{tuple(student.shape)}; compare 'backbone'")
        if not student.numel():
            return dict(feature=student.sum(), contrast=student.sum())
        n, _, h, w = student.shape
        drawn = torch.rand((n, 1, h, w), device=student.device,
                           generator=eager(generator_of)(student.device, iteration))
        aligned = self.align(student)
        made = self.generator(aligned * (drawn >= self.masked).to(aligned.dtype)).to(teacher.dtype)
        with torch.autocast(student.device.type, enabled=False):
            contrast = self.contrast(made, teacher)
        return dict(feature=self.lambda_fd * (made - teacher).square().sum() / n,
                    contrast=self.lambda_ctr * contrast)

    def contrast(self, made: Tensor, teacher: Tensor) -> Tensor:
        """:math:`L_{ctr}` without its weight, of two maps (N, C, H, W)."""
        height, width = made.shape[2:]
        pool = min(self.pool, max(min(height, width) // self.patch, 1))
        if pool > 1:
            made, teacher = max_pool2d(made, pool), max_pool2d(teacher, pool)
        (own, positions), (other, _) = (self._samples(one) for one in (made, teacher))
        logits = distances(own, other) / -self.tau
        group = torch.arange(logits.shape[1], device=logits.device) % self.groups
        # Of its own group, a sample is compared with its partner alone.
        is_left_out = (group[:, None] == group) & ~torch.eye(
            len(group), dtype=torch.bool, device=logits.device)
        partner = logits.diagonal(dim1=1, dim2=2)
        found = logits.masked_fill(is_left_out, -torch.inf).logsumexp(2) - partner
        return found.sum() / (len(made) * positions)

    def _samples(self, maps: Tensor) -> Tuple[Tensor, int]:
        """(patches, positions·groups, channels of a group), and the number of positions of an
        image."""
        h, w = (min(self.patch, size) for size in maps.shape[2:])
        rows, columns = (size // side for size, side in zip(maps.shape[2:], (h, w)))
        maps = maps[:, :, :rows * h, :columns * w]
        cut = maps.unflatten(3, (columns, w)).unflatten(2, (rows, h))
        # (N, groups, channels, rows, h, columns, w)
        cut = cut.unflatten(1, (self.groups, -1)).permute(0, 3, 5, 4, 6, 1, 2)
        return cut.flatten(3, 5).flatten(0, 2), rows * h * columns * w


def distances(own: Tensor, other: Tensor) -> Tensor:
    """Sums of absolute differences of samples, patch by patch, in chunks of patches.

    Args:
        own (Tensor): (patches, samples, channels).
        other (Tensor): (patches, samples, channels).

    Returns:
        Tensor: (patches, samples, samples).
    """
    size = max(BUFFER // max(own.shape[1] * other.numel() // len(other), 1), 1)
    return torch.cat([torch.cdist(a, b, p=1.)
                      for a, b in zip(own.split(size), other.split(size))])


METHOD = Method('af_dcd', segmentor=[
    dict(type='mmkd.AfDCDLoss', on='backbone', levels=[-1]),
    dict(type='mmkd.KDLoss', on='cls')])
