"""DKD: the class of the label, and the other classes among themselves (Zhao et al., 2022).

:Paper: `Decoupled Knowledge Distillation <https://arxiv.org/abs/2203.08679>`_, CVPR 2022,
    section 3.2, equation 7.
:Compares: the class logits of RoIs, the background being a class, at the RoIs that the student
    sampled; the class logits of pixels. It needs the labels. A sigmoid head is refused: BCKD is
    what such heads take.
:Defaults: α = 1, β = 0.25, τ = 1, weight 1 for RoI heads, the authors' for Faster R-CNN on COCO,
    without warm-up. Segmentors have no values of the authors: those of RoI heads are used, and 0.4
    on the auxiliary head, which is our choice. Classifiers: β = 0.5, the authors' for ImageNet,
    whose warm-up of 1 epoch is none, because they count from 1. On CIFAR-100 they have β = 8, τ = 4
    and a warm-up of 20 epochs.
:Differs: positions without a label (-1) are left out, and the mean is taken over the others; the
    authors' detector has no such positions. The logarithm of the target's probability is computed
    from the logits; the authors take the logarithm of a sum of probabilities, which is infinite
    where it underflows. OpenMMLab's port returns a sum over the batch instead of a mean.
:Published: Faster R-CNN R50, R101 (42.0), detectron2, 180k iterations of 8 images: 37.93 -> 39.25,
    with ReviewKD 40.65 (from memory); Faster R-CNN R18, R101 (42.0), the same: 33.26 -> 35.05 (from
    memory); ResNet18, ResNet34, ImageNet: 71.70 distilled (README)
"""
from typing import List, Optional

from torch import Tensor

from ..core.arguments import finite_number, true_or_false
from ..core.table import LOSSES
from .fast.decoupled import Formula, binary_divergence, decoupled, weight_of
from .logits import LogitLoss
from .lskd import LEAST_COLUMNS, notes_of_standardized, standardized_at
from .method import Method


@LOSSES.register
class DKDLoss(LogitLoss):
    r"""Divergence of the target class from the rest, and of the other classes among themselves.

    `Decoupled Knowledge Distillation <https://arxiv.org/abs/2203.08679>`_, equation 7. With g the
    class of the label, :math:`p = softmax(z / \tau)`, :math:`b = (p_g, 1 - p_g)`, and
    :math:`\tilde p` the softmax over the classes without g:

    .. math:: \tau^2 \frac{1}{M} \sum_m \big[ \alpha \, KL(b^T \| b^S)
        + \beta \, KL(\tilde p^T \| \tilde p^S) \big]

    M is the number of positions with a label from 0 to C-1; other positions are left out. With
    ``weight``, a position of weight w counts w times. In a RoI head the background is the last
    column, and a label like the others.

    Over two columns only the first part is left, because a softmax over the one other class is 1.

    Args:
        alpha (float): α, weight of the target class. Defaults to 1.0.
        beta (float): β, weight of the other classes. Defaults to 0.25.
        tau (float): τ, temperature, greater than 0. Defaults to 1.0.
        use_sigmoid (bool, optional): False to compare the columns of a sigmoid head by softmax,
            at positions with a label among them. Defaults to None: the activation of the student's
            head, which must be softmax.
        loss_weight (float): Factor of the result. Defaults to 1.0.
        standardize (bool): Whether the logits of each position are standardised first, see
            :func:`mmkd.losses.lskd.standardized`. Defaults to False.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``alpha`` or ``beta`` is negative, or ``tau`` not greater than 0; if
            ``use_sigmoid`` is True, or the student's head is activated by sigmoid.

    Example:
        >>> import torch
        >>> student, teacher = torch.randn(2, 8, 81)
        >>> labels = torch.randint(-1, 81, (8, ))
        >>> DKDLoss(alpha=1.0, beta=0.25)(student, teacher, labels=labels).shape
        torch.Size([])
    """

    needs_softmax = (
        'DKDLoss separates the class of the label from the others, which needs probabilities that '
        'sum to 1; use mmkd.BCKDLoss for sigmoid heads')

    def __init__(self, alpha: float = 1.0, beta: float = 0.25, tau: float = 1.0,
                 use_sigmoid: Optional[bool] = None, loss_weight: float = 1.0,
                 standardize: bool = False) -> None:
        super().__init__(tau, use_sigmoid, loss_weight)
        self.alpha = finite_number('alpha', alpha, least=0)
        self.beta = finite_number('beta', beta, least=0)
        self.standardize = true_or_false('standardize', standardize)

    def compare(self, student: Tensor, teacher: Tensor,  # type: ignore[override]
                weight: Optional[Tensor] = None, *, labels: Tensor) -> Tensor:
        weight = weight_of(labels, student, weight)
        if self.standardize:
            student, teacher = (standardized_at(side, weight) for side in (student, teacher))
        scale = self.tau**2
        return decoupled(student, teacher, labels, weight, Formula(
            binary_divergence, self.tau, self.tau, scale * self.alpha, scale * self.beta, True))

    def notes(self, channels: int) -> List[str]:
        notes = super().notes(channels)
        if notes or channels >= LEAST_COLUMNS:
            return notes
        if self.standardize:
            return notes_of_standardized(self, channels)
        return ['DKDLoss leaves out its non-target part, because 2 columns have only one other '
                'class']


METHOD = Method('dkd', instead=dict(dense='bckd'), roi=[
    dict(type='mmkd.DKDLoss', on='cls')], segmentor=[
    dict(type='mmkd.DKDLoss', on='cls'),
    dict(type='mmkd.DKDLoss', on='aux', loss_weight=0.4, if_there=True)],
    classifier=[dict(type='mmkd.DKDLoss', on='cls', beta=0.5)])
