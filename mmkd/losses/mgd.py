"""MGD: the student's masked features generate the teacher's (Yang et al., 2022).

:Paper: `Masked Generative Distillation <https://arxiv.org/abs/2205.01529>`_, ECCV 2022, section 3,
    equations 3 to 5.
:Compares: Detectors: the neck; dense heads all levels, RoI heads and SOLO the first four (P2 to
    P5). Segmentors: the last level of the backbone, and by CWD the logits of the decode head.
:Defaults: The authors' configs. Dense heads and SOLO: alpha 2e-5, 65 % masked, the student starts
    with the teacher's neck and head. RoI heads: alpha 5e-7, 45 % masked, no inheritance (their
    teacher is a Cascade Mask R-CNN). Segmentors: alpha 2e-5, 75 % masked. Gradients of detectors
    are clipped at a norm of 35.
:Differs: The random mask has a generator of its own, seeded from the run's seed, the process, the
    iteration and the level, so that the student's other random numbers stay as they are. Where the
    neck has norms after its 3x3 convolutions (RepPoints), the authors compare the outputs of the
    convolutions, mmkd those of the neck. The authors' segmentation trainer adds CWD on the logits
    (tau 4, weight 3) by a default that the paper does not mention; ``--method mgd`` writes it as an
    entry of its own. The text of their RetinaNet config names the 1x teacher, but its checkpoint is
    that of the 3x multi-scale schedule (41.6). OpenMMLab's port loses the clip of gradients.
:Published: RetinaNet R50, X101-64x4d (3x), 2x: 37.4 -> 41.0 (authors' README); Faster R-CNN R50,
    Cascade Mask X101-32x4d-DCN, 2x: 38.4 -> 42.1 (authors' README); RepPoints R50, X101-DCN, 2x:
    38.6 -> 42.3 (authors' README); SOLO R50, R101, 1x: mask 33.1 -> 36.2 (authors' README);
    PSPNet R18, PSPNet R101, 40k 512x512: 69.85 -> 73.63 mIoU (authors' README, with CWD);
    DeepLabV3 R18, PSPNet R101, 40k 512x512: 73.20 -> 76.31 mIoU (authors' README, with CWD)
"""
from typing import Optional, Tuple

import torch
from torch import Tensor, nn

from ..core.arguments import finite_number
from ..core.rng import generator_of
from ..core.table import LOSSES
from .base import DistillLoss
from .fast.eager import eager
from .method import CLIP, Method, Recipe


@LOSSES.register
class MGDLoss(DistillLoss):
    r"""Masked generative distillation: a part of the student's features generates the teacher's.

    `Masked Generative Distillation <https://arxiv.org/abs/2205.01529>`_, section 3. With a random
    mask :math:`M` of zeros and ones, and a generator :math:`G` of two 3x3 convolutions with a ReLU
    between them:

    .. math:: L = w \frac{1}{N} \sum_{n,c,h,w} \big( G(M \odot F^S) - F^T \big)^2, \quad
        P(M_{n,h,w} = 0) = \lambda

    The sum is divided by the N images of the process alone, so the weight w, the authors'
    :math:`\alpha`, is small. The mask is a new one in each iteration, level and process. It does
    not change the random numbers of the run, and it is the same in a resumed run. The generator is
    trained with the student, but is not part of it. Where the widths differ, mmkd's connector is
    the authors' 1x1 convolution.

    Args:
        masked (float): :math:`\lambda`, the fraction that is set to zero, from 0 to 1. Defaults to
            0.65.
        mask (str): 'positions', one value for each position (N, 1, H, W), or 'channels', one for
            each channel (N, C, 1, 1), as the authors have it for classification. Defaults to
            'positions'.
        loss_weight (float): w, factor of the result. Defaults to 2e-5.

    Raises:
        TypeError: If a number is of the wrong type.
        ValueError: If a number is out of range, or ``mask`` is none of the two; when called, if
            the features are not maps (N, C, H, W).

    Example:
        >>> loss = MGDLoss()
        >>> loss.setup(8, 8)
        >>> features = torch.randn(2, 1, 8, 4, 4)
        >>> loss(*features, iteration=0) == loss(*features, iteration=0)
        tensor(True)
    """

    layers_in = 'autocast'  # the generator is as heavy as a head

    def __init__(self, masked: float = 0.65, mask: str = 'positions',
                 loss_weight: float = 2e-5) -> None:
        super().__init__(loss_weight)
        self.masked = finite_number('masked', masked, least=0)
        if masked > 1:
            raise ValueError(f'`masked` must be between 0 and 1, but got {masked}; write the '
                             'fraction that is set to zero, such as 0.65')
        if mask not in ('positions', 'channels'):
            raise ValueError(f"`mask` must be 'positions' or 'channels', but got {mask!r}; write "
                             'one of them')
        self.mask = mask

    def setup(self, student_channels: int, teacher_channels: int) -> None:
        self.generator = nn.Sequential(
            nn.Conv2d(student_channels, teacher_channels, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(teacher_channels, teacher_channels, 3, padding=1))

    def compare(self, student: Tensor, teacher: Tensor, *, iteration: int,
                level: Optional[int] = None) -> Tensor:
        if student.dim() != 4:
            raise ValueError(f'MGDLoss generates maps (N, C, H, W), but got '
                             f"{tuple(student.shape)}; compare 'neck' or 'backbone'")
        if not student.numel():
            return student.sum() * 0
        n, c, h, w = student.shape
        shape = (n, 1, h, w) if self.mask == 'positions' else (n, c, 1, 1)
        kept = eager(_kept)(shape, self.masked, student, iteration, level or 0)
        made = self.generator(student * kept).to(teacher.dtype)
        return (made - teacher).square().sum() / n


def _kept(shape: Tuple[int, ...], masked: float, like: Tensor, *numbers: int) -> Tensor:
    """0 with a probability of ``masked``, else 1."""
    drawn = torch.rand(shape, generator=generator_of(like.device, *numbers), device=like.device)
    return (drawn >= masked).to(like.dtype)



METHOD = Method(
    'mgd',
    dense=Recipe([dict(type='mmkd.MGDLoss', on='neck')],
                 {**CLIP, 'model.inherit': 'neck,head'}),
    roi=Recipe([dict(type='mmkd.MGDLoss', on='neck', levels=[0, 1, 2, 3], masked=0.45,
                     loss_weight=5e-7)], CLIP),
    solo=Recipe([dict(type='mmkd.MGDLoss', on='neck', levels=[0, 1, 2, 3])],
                {**CLIP, 'model.inherit': 'neck,head'}),
    segmentor=[dict(type='mmkd.MGDLoss', on='backbone', levels=[-1], masked=0.75),
               dict(type='mmkd.CWDLoss', on='cls', tau=4., loss_weight=3.)])
