"""IFVD: how near each pixel is to the mean of its class in the image (Wang et al., 2020).

:Paper: `Intra-class Feature Variation Distillation for Semantic Segmentation
    <https://www.ecva.net/papers/eccv_2020/papers_ECCV/papers/123520341.pdf>`_, ECCV 2020, section
    3.2 (its number is from memory).
:Compares: the features before the classifier of a segmentor, after its dropout, and its logits by
    KD. Channels may differ.
:Defaults: 200 for IFVD, and KD with 10, from the authors' options. Their KD is divided by the
    number of classes, too; ours is not, so its weight is 10/19, for the 19 classes of Cityscapes.
    CIRKD's scripts have 20, KD with 1, and the same adversarial term.
:Differs: the authors add an adversarial term (weight 0.001), which mmkd does not have. An ignored
    pixel adds 0 even where all features of one side are 0; in the authors' code it then adds 1.
    Of maps of different sizes, the teacher's is interpolated to the student's size; the authors'
    have one size.
:Published: PSPNet-R18, PSPNet-R101 (78.56), Cityscapes val, 40k, crop 512x512: 69.10 -> 74.54
    (paper, from memory); DeepLabV3-R18, DeepLabV3-R101 (78.07), 40k: 74.21 -> 75.59 (CIRKD);
    PSPNet-R18, DeepLabV3-R101, 40k: 72.55 -> 73.71 (CIRKD, from memory).
"""
from typing import FrozenSet

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..core.table import LOSSES
from .base import DistillLoss
from .fast.squares import sum_of_squares
from .method import Method

EPS = 1e-8
"""Least length of a vector, as in torch's cosine similarity."""


@LOSSES.register
class IFVDLoss(DistillLoss):
    r"""Squared difference of the cosines between the features and the mean of their class.

    `Intra-class Feature Variation Distillation for Semantic Segmentation
    <https://www.ecva.net/papers/eccv_2020/papers_ECCV/papers/123520341.pdf>`_, section 3.2. The
    prototype of a class in an image is the mean of the features of its pixels. With the prototype
    :math:`p_{n,i}` of the class of pixel i:

    .. math::
        L = \frac{1}{N H W} \sum_{n,i} (M^S_{n,i} - M^T_{n,i})^2, \quad
        M_{n,i} = \frac{\langle F_{n,i}, p_{n,i} \rangle}
        {\lVert F_{n,i} \rVert \, \lVert p_{n,i} \rVert}

    Labels are reduced to the map by their nearest neighbours. An ignored pixel adds 0 to the sum,
    and counts in its mean, as in the authors' code. A rotation of all features, and the scale of an
    image, have no influence.

    Args:
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Raises:
        ValueError: When called, if the input is not (N, C, H, W).

    Example:
        >>> student, teacher = torch.randn(2, 4, 3, 3), torch.randn(2, 6, 3, 3)
        >>> every_pixel_ignored = torch.full((2, 6, 6), -1)
        >>> IFVDLoss()(student, teacher, label_map=every_pixel_ignored, num_classes=5)
        tensor(0.)
    """

    must_match: FrozenSet[str] = frozenset({'positions'})

    def compare(self, student: Tensor, teacher: Tensor, *, label_map: Tensor,
                num_classes: int) -> Tensor:
        if student.dim() != 4:
            raise ValueError('IFVDLoss compares maps (N, C, H, W), but got '
                             f'{tuple(student.shape)}; choose a point that has maps, such as '
                             "'features' of a segmentor")
        if student.numel() == 0:
            return student.sum() * 0
        # Floats are exact up to 2**24, far beyond any label.
        labels = interpolate(label_map.unsqueeze(1).float(), student.shape[2:]).flatten(2)
        classes = torch.arange(num_classes, device=student.device).view(1, -1, 1)
        members = (labels == classes).to(student.dtype)
        own, other = (variation(side.flatten(2), members) for side in (student, teacher))
        return (own - other).square().mean()


def variation(features: Tensor, members: Tensor) -> Tensor:
    """Cosine of each pixel with the prototype of its class.

    Args:
        features (Tensor): Float (N, C, L).
        members (Tensor): (N, K, L), 1 for the class of a pixel, 0 for the others.

    Returns:
        Tensor: (N, L), 0 for pixels without a class.
    """
    # A cosine does not depend on the length, so the sum of a class can replace its mean.
    sums = (features @ members.transpose(1, 2)).transpose(1, 2)
    products = ((sums @ features) * members).sum(1)
    squares = (sums.square().sum(2, keepdim=True) * members).sum(1)
    lengths = [one.clamp(min=EPS**2).sqrt() for one in (sum_of_squares(features), squares)]
    return products / lengths[0] / lengths[1]


METHOD = Method('ifvd', segmentor=[
    dict(type='mmkd.IFVDLoss', on='features', loss_weight=200.),
    dict(type='mmkd.KDLoss', on='cls', loss_weight=10 / 19)])
