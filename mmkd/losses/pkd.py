"""PKD: Pearson correlation of each channel of the features (Cao et al., 2022).

:Paper: `PKD: General Distillation Framework for Object Detectors via Pearson Correlation
    Coefficient <https://arxiv.org/abs/2207.02039>`_, NeurIPS 2022, section 3.
:Compares: the first four levels of the neck of a detector, or of its backbone if it has no neck.
    The published models are one-stage and two-stage detectors.
:Defaults: weight 10 for one-stage and 6 for two-stage students, from the authors' configs
    (mmrazor). Their RetinaNet with a Mask R-CNN Swin-S teacher has 6. For other families 10 is our
    choice. With CrossKD, ``--method crosskd+pkd`` has the weights of CrossKD's
    authors, on five levels.
:Differs: levels are paired by stride; the authors pair them by number, so that with a Mask R-CNN
    as teacher P3 of a RetinaNet is compared with P2. Of maps of different sizes, the teacher's is
    interpolated to the student's size; the authors interpolate the student's. A 1x1 convolution is
    added to the student where the numbers of channels differ, which the authors do not have. A
    level of a single position is 0; the authors' is NaN.
:Published: Faster R-CNN R50, Faster R-CNN R101 (39.8), 2x: 38.4 -> 40.3 (authors); RetinaNet R50,
    RetinaNet X101-64x4d (41.0), 2x: 37.4 -> 40.8 (authors); RetinaNet R50, FCOS X101 (42.6), 1x:
    36.5 -> 40.3 (authors); RetinaNet R50, Mask R-CNN Swin-S (48.2), 2x: 37.4 -> 41.5 (authors);
    FCOS R50, Mask R-CNN Swin-S (48.2), 2x: 39.1 -> 43.9 (paper); RepPoints R50, RepPoints X101-DCN
    (44.2), 2x: 38.6 -> 42.3 (authors).
"""
from typing import Any, Iterator, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..core.table import LOSSES
from .base import DistillLoss
from .fast.eager import eager
from .fast.pieces import pieces
from .method import Method

EPS = 1e-6
"""Added to the standard deviations, as in the authors' code."""


@LOSSES.register
class PKDLoss(DistillLoss):
    r"""Half the mean squared difference of standardized features.

    `PKD <https://arxiv.org/abs/2207.02039>`_, section 3. Each channel is standardized over the
    positions of all images of the batch, n in number, with its mean :math:`\mu` and its standard
    deviation :math:`s` (of a sample, divided by n - 1):

    .. math::
        L = \frac{1}{2 n C} \sum_{c,i} (\hat x^S_{c,i} - \hat x^T_{c,i})^2, \quad
        \hat x_{c,i} = \frac{x_{c,i} - \mu_c}{s_c + 10^{-6}}

    Apart from the constant :math:`10^{-6}` this is :math:`\frac{n-1}{n} (1 - \rho_c)`, averaged
    over the channels, where :math:`\rho_c` is Pearson's correlation. Scale and offset of a channel
    have no influence.

    Only the features and five numbers per channel are saved for backward. Statistics are those of
    the images of one process. With n = 1 there is no correlation, and the loss is 0.

    Args:
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Example:
        >>> features = torch.randn(2, 3, 4, 4)
        >>> PKDLoss()(5 * features + 1, features).item() < 1e-6
        True
    """

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        if student.numel() <= student.shape[1]:  # no position, or one
            return student.sum() * 0
        result: Tensor = eager(_PKD.apply)(*(one.flatten(2) if one.dim() > 2 else
                                             one.T.unsqueeze(0) for one in (student, teacher)))
        return result


class _PKD(torch.autograd.Function):
    """Value and gradient from the moments of each channel, computed in chunks."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> Tensor:
        count = len(student) * student.shape[2]
        means = [one.sum(2).sum(0, dtype=torch.float64).div_(count).to(one.dtype).unsqueeze(1)
                 for one in (student, teacher)]
        sums = student.new_zeros(3, student.shape[1], dtype=torch.float64)
        for n, channels in channels_of(student):
            s, t = (one[n, channels] - mean[channels]
                    for one, mean in zip((student, teacher), means))
            product = (s * t).sum(1)
            sums[:, channels] += torch.stack([s.mul_(s).sum(1), t.mul_(t).sum(1), product])
        deviations = (sums[:2] / (count - 1)).sqrt()
        of_student, of_teacher = factors = 1 / (deviations + EPS)
        square_s, square_t, product = sums
        value = of_student**2 * square_s + of_teacher**2 * square_t - (
            2 * of_student * of_teacher * product)
        # d loss / d s = a (s - mean) + b (t - mean). A constant channel has a deviation of which
        # the derivative is taken as 0, as in torch.
        scale = of_student / (count * student.shape[1])
        slope = of_teacher * product / ((count - 1) * deviations[0])
        a = of_student * torch.where(deviations[0] > 0, EPS * of_student + slope, 1.)
        ctx.save_for_backward(student, teacher, *means, torch.stack(
            [scale * a, -scale * factors[1]]).to(student.dtype))
        # Of equal sides, rounding may leave less than 0.
        return (value.clamp(min=0).mean() / (2 * count)).to(student.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        student, teacher, mean_s, mean_t, slopes = ctx.saved_tensors
        a, b = (slopes * gradient).unsqueeze(2)
        found = torch.empty_like(student)
        for n, channels in channels_of(student):
            part = torch.sub(student[n, channels], mean_s[channels], out=found[n, channels])
            part.mul_(a[channels]).addcmul_(teacher[n, channels] - mean_t[channels], b[channels])
        return found, None


def channels_of(maps: Tensor) -> Iterator[Tuple[int, slice]]:
    """Yield per image slices of the channels of (N, C, L)."""
    return pieces(maps.transpose(1, 2))


_ENTRY = dict(type='mmkd.PKDLoss', on=('neck', 'backbone'), levels=([0, 1, 2, 3], None))
METHOD = Method('pkd', [dict(_ENTRY, loss_weight=10.)], roi=[dict(_ENTRY, loss_weight=6.)])
