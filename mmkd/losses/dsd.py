"""DSD: where attention moves from layer to layer, and which classes are alike (Feng et al., 2021).

:Paper: `Double Similarity Distillation for Semantic Image Segmentation
    <https://arxiv.org/abs/2107.08591>`_, IEEE TIP 2021: pixel-wise and category-wise similarity.
:Compares: class logits of the decode head, with the logits of the auxiliary head and the features
    that the classifier is given as ``also``.
:Defaults: those of `CIRKD's implementation <https://github.com/winycg/CIRKD>`_: weights 1000 and
    10, temperature 4 after 2x2 average pooling, and which three maps. No code of DSD's
    authors could be found.
:Differs: maps of other sizes than the logits are interpolated; CIRKD's implementation needs equal
    ones. Nothing else known.
:Published: DeepLabV3-R18, DeepLabV3-R101, Cityscapes 40k: 74.21 -> 74.81 (CIRKD's authors);
    DeepLabV3-MobileNetV2, DeepLabV3-R101, Cityscapes 40k: 73.12 -> 74.11 (CIRKD's authors).
"""
from itertools import combinations
from typing import Dict, List, Tuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, normalize

from ..core.arguments import finite_number, temperature
from ..core.table import LOSSES
from .base import DistillLoss
from .fast.eager import eager
from .method import Method


@LOSSES.register
class DSDLoss(DistillLoss):
    r"""Residual attention between layers, and similarity of the classes.

    `Double Similarity Distillation for Semantic Image Segmentation
    <https://arxiv.org/abs/2107.08591>`_, with the reductions of CIRKD's implementation.

    *Pixels.* The attention map of a layer is the mean of its squared channels, as a unit vector
    over the positions, :math:`A = \mathrm{unit}(\frac{1}{C} \sum_c F_c^2)`. Over all K pairs of an
    earlier layer k and a later layer l, in the order of ``also`` and then the logits:

    .. math:: L_{pixel} = \frac{1}{K} \sum_{k<l} \frac{1}{N H W} \sum_{n,i}
        (R^S_{kl,n,i} - R^T_{kl,n,i})^2, \quad R_{kl} = \mathrm{unit}(A_l - A_k)

    *Classes.* The logits are averaged over windows of 2x2. With
    :math:`p_c = softmax(z_c / \tau)` over the positions:

    .. math:: L_{category} = \frac{1}{N C^2} \sum_n \sum_{c,d}
        (p^{S\top}_{n,c} p^S_{n,d} - p^{T\top}_{n,c} p^T_{n,d})^2

    The entry names the layers before the logits, one or more, from the first to the last:
    ``also=['aux', 'features']``. It returns the parts 'pixel' and 'category', each with
    its weight.

    Args:
        pixel_weight (float): Weight of :math:`L_{pixel}`, 0 or more. Defaults to 1000.
        category_weight (float): Weight of :math:`L_{category}`, 0 or more. Defaults to 10.
        tau (float): Temperature, greater than 0. Defaults to 4.0.
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Raises:
        ValueError: If an argument is out of range; when called, if the logits are not maps
            (N, C, H, W).

    Example:
        >>> loss, logits, features = DSDLoss(), torch.randn(2, 1, 5, 8, 8), torch.randn(1, 9, 8, 8)
        >>> parts = loss(*logits, student_also=[features], teacher_also=[features])
        >>> sorted(parts)
        ['category', 'pixel']
    """

    def __init__(self, pixel_weight: float = 1000., category_weight: float = 10.,
                 tau: float = 4.0, loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.pixel_weight = finite_number('pixel_weight', pixel_weight, least=0)
        self.category_weight = finite_number('category_weight', category_weight, least=0)
        self.tau = temperature(tau)

    def compare(self, student: Tensor, teacher: Tensor, *, student_also: List[Tensor],
                teacher_also: List[Tensor]) -> Dict[str, Tensor]:
        if student.dim() != 4:
            raise ValueError(f'DSDLoss compares maps (N, C, H, W), but got {tuple(student.shape)}; '
                             "compare 'cls' of a segmentor")
        if student.numel() == 0:
            nothing = student.sum() * 0
            return dict(pixel=nothing, category=nothing)
        size = (student.shape[2], student.shape[3])
        own, other = (residuals([*(one.to(student.dtype) for one in also), logits], size)
                      for also, logits in ((student_also, student), (teacher_also, teacher)))
        pixel = torch.stack([(s - t).square().mean() for s, t in zip(own, other)]).mean()
        own_classes, other_classes = (eager(alike)(one, self.tau) for one in (student, teacher))
        category = (own_classes - other_classes).square().mean()
        return dict(pixel=self.pixel_weight * pixel, category=self.category_weight * category)


def residuals(maps: List[Tensor], size: Tuple[int, int]) -> List[Tensor]:
    """How attention differs between each two layers: unit vectors (N, H·W), one for each pair.

    Args:
        maps (list[Tensor]): Each (N, C, h, w), from the first layer to the last.
        size (tuple[int, int]): H and W.
    """
    attentions = []
    for one in maps:
        attention = one.square().mean(1, keepdim=True)
        if attention.shape[2:] != size:
            attention = interpolate(attention, size, mode='bilinear', align_corners=False)
        attentions.append(normalize(attention.flatten(1)))
    return [normalize(later - earlier) for earlier, later in combinations(attentions, 2)]


def alike(logits: Tensor, tau: float) -> Tensor:
    """Similarity of the classes by where they are, (N, C, C).

    torch 2.13 compiles the gradient of pooling with ``ceil_mode`` wrongly for odd sizes, so this is
    not compiled.
    """
    p = (avg_pool2d(logits, 2, ceil_mode=True).flatten(2) / tau).softmax(2)
    return torch.bmm(p, p.transpose(1, 2))


METHOD = Method('dsd', segmentor=[
    dict(type='mmkd.DSDLoss', on='cls', also=(['aux', 'features'], ['features']))])
