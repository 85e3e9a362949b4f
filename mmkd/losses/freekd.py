"""FreeKD: high frequencies of features, inside masks learned on the teacher (Zhang et al., 2024).

:Paper: `FreeKD: Knowledge Distillation via Semantic Frequency Prompt
    <https://arxiv.org/abs/2311.12079>`_, CVPR 2024, sections 3.2 to 3.4.
:Compares: the neck of detectors, level by level, through a 1x1 convolution on the student: the
    coefficients of a wavelet transform, and by :class:`mmkd.MSELoss` the features themselves; box
    offsets by :class:`mmkd.BoxImitationLoss`. The logits of segmentors.
:Defaults: RetinaNet: the one config of the authors that matches their code, 6 prompts, weight 1,
    features times 5, smooth L1 on box offsets, gradients clipped at 35. Faster R-CNN: features
    times 1, from their configs of an earlier form of the loss. First stage: as that of MasKD,
    because the authors' is not published. Segmentors: logits, as MasKD, is our choice; the authors
    published no code for them.
:Differs: what is implemented is the authors' code. Their three masks are those of three scales,
    though named after orientations; the low frequencies are not compared; the position-aware
    weights of the paper's section 3.4 are not in the code. The MSE has a convolution of its own,
    where the authors share one. A transform of an odd size is reversed to that size. The unused
    weighting layers of their prompts are left out. Their RetinaNet trains at twice the usual
    learning rate, 0.02. The first stage, ``tools/train.py TEACHER.py --prepare freekd``, writes
    prepared.pth into its work dir; it goes into ``tokens`` of the loss, or ``--method freekd
    --prepared FILE``.
:Published: RetinaNet R50, RetinaNet R101, 2x: 37.4 -> 39.9 (README); RetinaNet R50, RetinaNet
    X101-64x4d, 2x: 37.4 -> 41.0 (README); Faster R-CNN R50, Faster R-CNN R101, 2x: 38.4 -> 40.8
    (README); Faster R-CNN R50, Cascade Mask R-CNN X101-64x4d (45.6), 2x: 38.4 -> 42.4 (README);
    FCOS R50, FCOS R101 ms-2x, 2x: 38.5 -> 42.9 (README, with another config than the 38.5);
    DeepLabV3-R18, DeepLabV3-R101 (78.07), 40k: 74.21 -> 76.45 (notes on the paper).
"""
from typing import Dict, List, Sequence, Tuple, Union

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..core.arguments import whole_number
from ..core.table import LOSSES, PREPARED
from .method import CLIP, Method, Preparation, Recipe
from .prepared import PreparedLoss, PreparedModule, dice, initial_tokens, masks_of

SCALES = 3
"""Levels of the wavelet transform."""


@PREPARED.register
class FrequencyPrompts(PreparedModule):
    r"""Frequency prompts: the first stage of FreeKD, one module per level.

    `FreeKD <https://arxiv.org/abs/2311.12079>`_, section 3.2. The teacher's features are split by
    a wavelet transform of Haar into low frequencies and three scales of high ones. For each of
    these four bands B, K prompts :math:`t_k` make masks :math:`M_k = \sigma(t_k B)`, of a scale
    with the sum of its three orientations as B, and the band is multiplied by :math:`\sum_k M_k`.
    The teacher continues with the inverse transform. The loss 'dice' is the mean overlap of masks,
    :func:`mmkd.losses.prepared.dice`, summed over the four bands. It is trained by
    :class:`mmkd.Prepare`.

    Args:
        tokens (int): K, prompts per band. Defaults to 6, the authors'.

    Example:
        >>> module = FrequencyPrompts(tokens=2)
        >>> module.setup(8)
        >>> features, parts = module(torch.randn(1, 8, 5, 4))
        >>> features.shape, list(parts)
        (torch.Size([1, 8, 5, 4]), ['dice'])
    """

    def __init__(self, tokens: int = 6) -> None:
        super().__init__()
        self.count = whole_number('tokens', tokens, least=1)

    def setup(self, channels: int) -> None:
        self.tokens = initial_tokens(1 + SCALES, self.count, channels)

    def masks(self, bands: List[Tensor]) -> List[Tensor]:
        """Masks (N, K, h, w) of the scales, (N, C, 3, h, w), the finest first."""
        return [masks_of(tokens, band.sum(2)) for tokens, band in zip(self.tokens[1:], bands)]

    def forward(self, features: Tensor) -> Tuple[Tensor, Dict[str, Tensor]]:
        low, bands = haar(features)
        masks = [masks_of(self.tokens[0], low), *self.masks(bands)]
        of_low, *of_bands = (one.sum(1, keepdim=True) for one in masks)
        prompted = inverse_haar(low * of_low, [
            band * mask.unsqueeze(2) for band, mask in zip(bands, of_bands)], features.shape[2:])
        return prompted, dict(dice=torch.stack([dice(one) for one in masks]).sum())


@LOSSES.register
class FreeKDLoss(PreparedLoss):
    r"""Mean absolute error of high frequencies inside the masks of trained prompts.

    `FreeKD <https://arxiv.org/abs/2311.12079>`_, as in the authors' code. With :math:`B_j` the
    coefficients of scale j of a Haar transform, in C channels, 3 orientations and P positions, and
    the masks M of the teacher's by :class:`FrequencyPrompts` that were trained before and are
    frozen:

    .. math::
        L = \sum_{j=1}^{3} \frac{1}{N K C \cdot 3 P_j} \sum_{n,k,c,o,p} M_{j,k,p} \,
        |B_j(S)_{c,o,p} - B_j(T)_{c,o,p}|

    .. code-block:: python

        distill=[dict(type='mmkd.FreeKDLoss', on='neck', connector='conv', tokens='prepared.pth')]

    Args:
        tokens (str | list[str]): The file that the first stage has written, see
            :class:`mmkd.Prepare`; for a :class:`mmkd.Committee` the file of each member.
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: Before training, if the file is missing, or of another teacher, point or module.

    Example:
        >>> FreeKDLoss(tokens='prepared.pth', loss_weight=2.0).loss_weight
        2.0
    """

    module = FrequencyPrompts
    method = 'freekd'
    frozen: FrequencyPrompts

    def __init__(self, tokens: Union[str, Sequence[str], None] = None,
                 loss_weight: float = 1.0) -> None:
        super().__init__(tokens, loss_weight)

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        if student.numel() == 0:
            return student.sum() * 0
        with torch.no_grad():
            masks = [one.mean(1) for one in self.frozen.masks(haar(teacher)[1])]
        # The transform is linear: that of the difference is the difference.
        _, bands = haar(student - teacher)
        return torch.stack([(mask * band.abs().mean((1, 2))).mean()
                            for mask, band in zip(masks, bands)]).sum()


def haar(features: Tensor, scales: int = SCALES) -> Tuple[Tensor, List[Tensor]]:
    """Wavelet transform of Haar; an odd size is padded by zeros at its end.

    Args:
        features (Tensor): (N, C, H, W).
        scales (int): Number of scales. Defaults to 3.

    Returns:
        tuple[Tensor, list[Tensor]]: Low frequencies (N, C, h, w), and the high ones of each scale,
        the finest first, (N, C, 3, h, w).

    Example:
        >>> low, (high, ) = haar(torch.tensor([[[[3., 1.], [1., 1.]]]]), scales=1)
        >>> low.flatten(), high.flatten()
        (tensor([3.]), tensor([1., 1., 1.]))
    """
    bands = []
    for _ in range(scales):
        height, width = features.shape[2:]
        features = pad(features, (0, width % 2, 0, height % 2))
        top, bottom = features[:, :, ::2], features[:, :, 1::2]
        total, across = top + bottom, top - bottom
        parts = [one[..., ::2] + sign * one[..., 1::2] for one, sign in (
            (total, 1), (across, 1), (total, -1), (across, -1))]
        features = parts[0] / 2
        bands.append(torch.stack(parts[1:], 2) / 2)
    return features, bands


def inverse_haar(low: Tensor, bands: List[Tensor], size: Tuple[int, ...]) -> Tensor:
    """The inverse of :func:`haar`.

    Args:
        low (Tensor): (N, C, h, w).
        bands (list[Tensor]): (N, C, 3, h, w), the finest first.
        size (tuple[int, int]): Height and width of the result.

    Returns:
        Tensor: (N, C, H, W).
    """
    sizes = [tuple(size), *(tuple(band.shape[3:]) for band in bands[:-1])]
    for band, (height, width) in zip(bands[::-1], sizes[::-1]):
        a, b, c = band.unbind(2)
        left_top, right_top = low + a + b + c, low + a - b - c
        left_bottom, right_bottom = low - a + b - c, low - a - b + c
        rows = [torch.stack(pair, -1).flatten(3) for pair in (
            (left_top, right_top), (left_bottom, right_bottom))]
        low = torch.stack(rows, 3).flatten(2, 3)[:, :, :height, :width] / 2
    return low


_NECK = dict(on='neck', connector='conv')

_PROMPTS = dict(type='mmkd.FrequencyPrompts', tokens=6)

_COSINE = dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=False)

METHOD = Method(
    'freekd',
    dense=Recipe(
        [dict(type='mmkd.FreeKDLoss', **_NECK),
         dict(type='mmkd.MSELoss', **_NECK, loss_weight=5.0),
         dict(type='mmkd.BoxImitationLoss', on='reg', if_there=True)],
        around=CLIP),
    roi=[dict(type='mmkd.FreeKDLoss', **_NECK), dict(type='mmkd.MSELoss', **_NECK),
         dict(type='mmkd.BoxImitationLoss', on='reg', if_there=True)],
    segmentor=[dict(type='mmkd.FreeKDLoss', on='cls'),
               dict(type='mmkd.FreeKDLoss', on='aux', loss_weight=0.4, if_there=True)],
    prepare=dict(
        dense=Preparation(_PROMPTS, 'neck', 2000, dict(type='Adam', lr=0.01, weight_decay=0.001),
                          _COSINE),
        roi=Preparation(_PROMPTS, 'neck', 2000, dict(
            type='SGD', lr=0.1, momentum=0.9, weight_decay=0.0001), _COSINE),
        segmentor=Preparation(_PROMPTS, 'cls', 2000, dict(
            type='Adam', lr=0.01, weight_decay=0.001), _COSINE)))
