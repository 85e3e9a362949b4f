"""MasKD: features inside masks that tokens have learned on the teacher (Huang et al., 2023).

:Paper: `Masked Distillation with Receptive Tokens <https://arxiv.org/abs/2205.14589>`_, ICLR 2023,
    section 3; equations 2 to 8.
:Compares: the neck of detectors, level by level, through a 1x1 convolution on the student, and the
    box offsets by :class:`mmkd.BoxImitationLoss`; the logits of segmentors, main and auxiliary, by
    the tokens of the main logits.
:Defaults: those of the authors' configs. RetinaNet: 6 tokens, weight 7, the student's masks from
    iteration 7000, L1 on box offsets, gradients clipped at 35, neck and head inherited. Faster
    R-CNN: weight 1, iteration 5000, smooth L1. Segmentors: 8 tokens without weights, factor 0.5,
    auxiliary head times 0.4, never the student's masks. FCOS: weight 10, iteration 5000, clipped at
    35, nothing inherited. RepPoints: weight 10, iteration 5000, nothing inherited, smooth L1 with
    beta 0.11 on the offsets of its refined (0.2) and initial points (0.1). Their Faster R-CNN R101
    has iteration 7330, their RetinaNet X101 8500. Other dense heads are taken as RetinaNet.
:Differs: the weights of masks are computed by pooling before the convolution, which is linear, so
    they are equal up to rounding. Sums of masks below 1e-5 count as 1e-5. In the first stage the
    teacher's layers are in eval mode; the authors leave dropout on. Their RetinaNet trains at
    twice the usual learning rate, 0.02, which ``--method`` does not change. The first stage,
    ``tools/train.py TEACHER.py --prepare maskd``, writes prepared.pth into its work dir; it goes
    into ``tokens`` of the loss, or ``--method maskd --prepared FILE``. Token files of the authors
    name no teacher, and are not read.
:Published: RetinaNet R50, RetinaNet R101, 2x: 37.4 -> 39.9 (README); RetinaNet R50, RetinaNet
    X101-64x4d, 2x: 37.4 -> 41.0 (README); Faster R-CNN R50, Faster R-CNN R101, 2x: 38.4 -> 41.0
    (README); Faster R-CNN R50, Cascade Mask R-CNN X101-64x4d (45.6), 2x: 38.4 -> 42.7 (README);
    FCOS R50, FCOS R101 ms-2x, 2x: 38.5 -> 42.9 (README, with another config than the 38.5);
    RepPoints R50, RepPoints X101-DCN (44.2), 2x: 38.6 -> 42.5 (README);
    DeepLabV3-R18, DeepLabV3-R101 (78.07), 40k: 74.21 -> 77.00 (README); PSPNet-R18,
    DeepLabV3-R101 (78.07), 40k: 72.55 -> 75.34 (README).
"""
import math
from typing import Any, Dict, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

from ..core.arguments import whole_number
from ..core.table import LOSSES, PREPARED
from .method import CLIP, Method, Preparation, Recipe
from .prepared import PreparedLoss, PreparedModule, dice, initial_tokens, masks_of

LEAST = 1e-5
"""Least sum of a mask, by which an error is divided."""


@PREPARED.register
class MaskTokens(PreparedModule):
    r"""Receptive tokens: the first stage of MasKD, one module per level.

    `Masked Distillation with Receptive Tokens <https://arxiv.org/abs/2205.14589>`_, section 3.2 and
    3.3. Each token :math:`t_k` makes a mask of the teacher's features F, and these are replaced by
    their masked mean:

    .. math::
        M_k = \sigma(t_k F), \quad F' = \sum_k w_k M_k \odot F, \quad
        w = softmax(W_2 \, GAP(W_1 * F))

    where :math:`W_1` is a 3x3 convolution. The loss 'dice' is the mean overlap of different masks,
    :func:`mmkd.losses.prepared.dice`. It is trained by :class:`mmkd.Prepare`, together with the
    teacher's own loss on :math:`F'`.

    Args:
        tokens (int): K. Defaults to 6, the authors' for detectors; they use 8 for segmentors.
        weighted (bool): Whether masks have weights w; without, all weights are 1.
            Defaults to True, the authors' for detectors; False is theirs for segmentors.

    Example:
        >>> module = MaskTokens(tokens=2)
        >>> module.setup(8)
        >>> features, parts = module(torch.randn(1, 8, 4, 4))
        >>> features.shape, list(parts)
        (torch.Size([1, 8, 4, 4]), ['dice'])
    """

    def __init__(self, tokens: int = 6, weighted: bool = True) -> None:
        super().__init__()
        self.count, self.weighted = whole_number('tokens', tokens, least=1), weighted

    def setup(self, channels: int) -> None:
        self.tokens = initial_tokens(self.count, channels)
        if self.weighted:
            self.mix = nn.Conv2d(channels, channels, 3, padding=1)
            self.rate = nn.Conv2d(channels, self.count, 1)
            for layer in (self.mix, self.rate):
                fan_out = layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels
                nn.init.normal_(layer.weight, std=math.sqrt(2 / fan_out))
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def masks(self, features: Tensor) -> Tensor:
        """M: (N, C, *positions) to (N, K, *positions), from 0 to 1."""
        return masks_of(self.tokens, features)

    def rates(self, features: Tensor) -> Optional[Tensor]:
        """w: (N, C, H, W) to (N, K), of sum 1; None without weights."""
        if not self.weighted:
            return None
        # The mean of a convolution is the convolution of means: each of the 3x3 weights meets all
        # positions except the row or column that lies outside for it.
        rows = features.sum(3)
        rows = torch.stack([rows - features[..., -1], rows, rows - features[..., 0]], -1)
        sums = rows.sum(2)
        sums = torch.stack([sums - rows[:, :, -1], sums, sums - rows[:, :, 0]], 2)
        means = sums / features[0, 0].numel()
        bias = self.mix.bias
        assert bias is not None
        mixed = torch.einsum('ncyx,dcyx->nd', means, self.mix.weight) + bias
        return self.rate(mixed[..., None, None]).flatten(1).softmax(1)

    def forward(self, features: Tensor) -> Tuple[Tensor, Dict[str, Tensor]]:
        masks, rates = self.masks(features), self.rates(features)
        share = masks.sum(1) if rates is None else torch.einsum('nkyx,nk->nyx', masks, rates)
        return features * share.unsqueeze(1), dict(dice=dice(masks))


@LOSSES.register
class MasKDLoss(PreparedLoss):
    r"""Squared error of features inside the masks of trained tokens.

    `Masked Distillation with Receptive Tokens <https://arxiv.org/abs/2205.14589>`_, section 3.4.
    With masks :math:`M_k` and weights :math:`w_k` of the teacher's features T, by
    :class:`MaskTokens` that were trained before and are frozen:

    .. math::
        L = \frac{1}{N} \sum_n \sum_k w_k \frac{\sum_p M_{k,p}^2 \, \frac{1}{C} \sum_c
        (S_{c,p} - T_{c,p})^2}{\sum_p M_{k,p}}

    From the iteration ``warmup`` on, the masks are multiplied by those of the student's features,
    which have no gradient. Tokens without weights count as :math:`w_k = 1 / K`.

    .. code-block:: python

        distill=[dict(type='mmkd.MasKDLoss', on='neck', connector='conv', tokens='prepared.pth')]

    Args:
        tokens (str | list[str]): The file that the first stage has written, see
            :class:`mmkd.Prepare`; for a :class:`mmkd.Committee` the file of each member.
        warmup (int, optional): Number of iterations before the student's masks take part; None,
            they never do. Defaults to 5000, the authors' for Faster R-CNN.
        loss_weight (float): Factor of the result. Defaults to 1.0, the authors' for Faster R-CNN;
            7 for RetinaNet, 10 for FCOS, 0.5 for segmentors.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``warmup`` is negative; before training, if the file is missing, or of
            another teacher, point or module.

    Example:
        >>> MasKDLoss(tokens='prepared.pth', warmup=None).warmup is None
        True
    """

    module = MaskTokens
    method = 'maskd'
    frozen: MaskTokens

    def __init__(self, tokens: Union[str, Sequence[str], None] = None, warmup: Optional[int] = 5000,
                 loss_weight: float = 1.0) -> None:
        super().__init__(tokens, loss_weight)
        self.warmup = None if warmup is None else whole_number('warmup', warmup)

    def compare(self, student: Tensor, teacher: Tensor, *, iteration: int) -> Tensor:
        if student.numel() == 0:
            return student.sum() * 0
        with torch.no_grad():
            masks, rates = self.frozen.masks(teacher), self.frozen.rates(teacher)
            if self.warmup is not None and iteration >= self.warmup:
                masks = masks * self.frozen.masks(student)
            masks = masks.flatten(2)
            masks = masks.square() / masks.sum(2, keepdim=True).clamp(min=LEAST)
            # The sum over tokens comes first: one map of weights, whatever their number.
            weight = masks.mean(1) if rates is None else (rates.unsqueeze(2) * masks).sum(1)
        error = (student - teacher).square().mean(1).flatten(1)
        return (weight * error).sum() / len(student)


_COSINE = dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=False)

_DETECTOR = dict(type='mmkd.MaskTokens', tokens=6)

_OF_POINTS = dict(type='mmkd.MasKDLoss', on='neck', connector='conv', loss_weight=10.0)


def _points(kind: str, loss_weight: float) -> Dict[str, Any]:
    """Smooth L1 on the offsets of the points of RepPoints."""
    return dict(type='mmkd.BoxImitationLoss', on=f'bbox_head.reppoints_pts_{kind}_out', beta=0.11,
                loss_weight=loss_weight, name=f'loss_{kind}_box', if_there=True)


METHOD = Method(
    'maskd',
    dense=Recipe(
        [dict(type='mmkd.MasKDLoss', on='neck', connector='conv', loss_weight=7.0, warmup=7000),
         dict(type='mmkd.BoxImitationLoss', on='reg', beta=0, if_there=True)],
        around={**CLIP, 'model.inherit': 'neck,head'}),
    FCOSHead=Recipe([_OF_POINTS], around=CLIP),
    RepPointsHead=[_OF_POINTS, _points('refine', 0.2), _points('init', 0.1)],
    roi=[dict(type='mmkd.MasKDLoss', on='neck', connector='conv'),
         dict(type='mmkd.BoxImitationLoss', on='reg', if_there=True)],
    segmentor=[
        dict(type='mmkd.MasKDLoss', on='cls', loss_weight=0.5, warmup=None),
        dict(type='mmkd.MasKDLoss', on='aux', loss_weight=0.2, warmup=None, if_there=True)],
    prepare=dict(
        dense=Preparation(_DETECTOR, 'neck', 2000, dict(type='Adam', lr=0.01, weight_decay=0.001),
                          _COSINE),
        roi=Preparation(_DETECTOR, 'neck', 2000, dict(
            type='SGD', lr=0.1, momentum=0.9, weight_decay=0.0001), _COSINE),
        segmentor=Preparation(
            dict(type='mmkd.MaskTokens', tokens=8, weighted=False), 'cls', 10000,
            dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.001),
            dict(type='PolyLR', power=0.9, eta_min=0.0, by_epoch=False))))
