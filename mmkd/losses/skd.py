"""SKD: class probabilities of pixels, and how alike the parts of an image are (Liu et al., 2019).

:Paper: `Structured Knowledge Distillation for Semantic Segmentation
    <https://arxiv.org/abs/1903.04197>`_, CVPR 2019, section 3.2, pixel-wise and pair-wise
    distillation.
:Compares: class logits of the decode head (:class:`mmkd.KDLoss`), and the features that the
    classifier is given, after the dropout, as the authors' are.
:Defaults: the script of the authors. Pair-wise weight 0.5, windows of half the height and half the
    width. Pixel-wise weight 10 in their code, where the sum over pixels is divided by H·W alone:
    the loss adds up over the 8 images of their batch. ``mmkd.KDLoss`` is a mean over images and
    pixels, so its weight is 10·8 = 80.
:Differs: the adversarial ("holistic") part is left out. The pixel-wise part is a divergence, theirs
    a cross entropy: the gradients are equal. CIRKD's version of the method, ``window=2`` with
    weight 10, and pixel-wise weight 1, lets the gradient pass through the norms, too; here they
    are constant, as in the authors' code.
:Published: PSPNet-R18, PSPNet-R101, Cityscapes 40k 512x512: 69.10 -> 70.51 pixel-wise -> 71.78 with
    pair-wise -> 74.08 with adversarial (authors); DeepLabV3-R18, DeepLabV3-R101, Cityscapes 40k,
    CIRKD's version with adversarial: 74.21 -> 75.42 (CIRKD's authors).
"""
from typing import FrozenSet, Optional

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from ..core.arguments import whole_number
from ..core.table import LOSSES
from .base import DistillLoss
from .method import Method


@LOSSES.register
class SKDLoss(DistillLoss):
    r"""Pair-wise similarity of the parts of an image.

    `Structured Knowledge Distillation for Semantic Segmentation
    <https://arxiv.org/abs/1903.04197>`_, section 3.2. The features of each part of a map, a window
    of it, are the largest of each channel. With their cosine similarity :math:`a_{ij}` of R parts:

    .. math:: \frac{1}{N R^2} \sum_n \sum_{i,j} (a^S_{n,ij} - a^T_{n,ij})^2,
        \quad a_{ij} = \frac{f_i^\top f_j}{\|f_i\| \|f_j\|}

    The norms are constant for the gradient, as in the authors' code. Channels may differ between
    student and teacher.

    Args:
        window (int, optional): Height and width of a part in positions, 1 or more. The last parts
            of a map may be smaller. Defaults to None, half of the height and of the width of the
            map: 4 parts, or 9 where both are odd.
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Raises:
        TypeError: If ``window`` is not a whole number.
        ValueError: If it is less than 1; when called, if the input is not (N, C, H, W).

    Example:
        >>> loss, features = SKDLoss(), torch.randn(2, 16, 8, 8)
        >>> loss(features, 3 * features).item() < 1e-6  # scale does not count
        True
    """

    must_match: FrozenSet[str] = frozenset({'positions'})

    def __init__(self, window: Optional[int] = None, loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.window = None if window is None else whole_number('window', window, least=1)

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        if student.dim() != 4:
            raise ValueError(f'SKDLoss compares maps (N, C, H, W), but got {tuple(student.shape)}; '
                             'compare features of a decode head')
        if student.numel() == 0:
            return student.sum() * 0
        own, other = (self._parts(one) for one in (student, teacher))
        similarity = torch.bmm(other.transpose(1, 2), other)
        difference = torch.baddbmm(similarity, own.transpose(1, 2), own, beta=-1)
        return difference.square().mean()

    def _parts(self, features: Tensor) -> Tensor:
        """Unit vectors (N, C, parts)."""
        size = [max(one // 2, 1) if self.window is None else self.window
                for one in features.shape[2:]]
        parts = max_pool2d(features, size, size, ceil_mode=True).flatten(2)
        return parts / (parts.detach().norm(dim=1, keepdim=True) + 1e-8)


METHOD = Method('skd', segmentor=[
    dict(type='mmkd.KDLoss', on='cls', loss_weight=80.),
    dict(type='mmkd.SKDLoss', on='features', loss_weight=0.5)])
