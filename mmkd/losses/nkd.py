"""NKD: the probability of the label, and the normalised other classes (Yang et al., 2023).

:Paper: `From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with
    Normalized Loss and Customized Soft Labels <https://arxiv.org/abs/2303.13005>`_, ICCV 2023,
    section 3.1, equation 7.
:Compares: the class logits of RoIs, the background being a class, and of pixels. It needs the
    labels. A sigmoid head is refused: BCKD is what such heads take.
:Defaults: γ = 1.5, τ = 1, weight 1, the authors' for ImageNet. Detectors and segmentors have no
    values of the authors: those of classification are used, and 0.4 on the auxiliary head, which
    is our choice.
:Differs: positions without a label (-1) are left out, and the mean is taken over the others. As in
    the authors' code, τ applies only to the other classes, and the value includes the teacher's
    entropy, so it is not 0 for equal logits.
:Published: ResNet18, ResNet34, ImageNet: 69.90 -> 71.96; MobileNet, ResNet50, ImageNet:
    69.21 -> 72.58; DeiT-Tiny, DeiT III-Small, ImageNet: 74.42 -> 76.68 (README)
"""
from typing import List, Optional

from torch import Tensor

from ..core.arguments import finite_number
from ..core.table import LOSSES
from .fast.decoupled import Formula, decoupled, expected_surprise, weight_of
from .logits import LogitLoss
from .method import Method


@LOSSES.register
class NKDLoss(LogitLoss):
    r"""Cross entropy of the target class, and of the other classes after a softmax of their own.

    `From Knowledge Distillation to Self-Knowledge Distillation
    <https://arxiv.org/abs/2303.13005>`_, equation 7. With g the class of the label,
    :math:`p = softmax(z)`, and :math:`\tilde p` the softmax of :math:`z / \tau` over the classes
    without g:

    .. math:: -\frac{1}{M} \sum_m \big[ p^T_g \log p^S_g
        + \gamma \, \tau^2 \sum_{c \neq g} \tilde p^T_c \log \tilde p^S_c \big]

    M is the number of positions with a label from 0 to C-1; other positions are left out. With
    ``weight``, a position of weight w counts w times. In a RoI head the background is the last
    column, and a label like the others. For equal logits the value is not 0, because it includes
    the teacher's entropy; over the other classes the gradient then is.

    Over two columns only the first part is left, because a softmax over the one other class is 1.

    Args:
        gamma (float): γ, weight of the other classes. Defaults to 1.5.
        tau (float): τ, temperature of the other classes, greater than 0. Defaults to 1.0.
        use_sigmoid (bool, optional): False to compare the columns of a sigmoid head by softmax,
            at positions with a label among them. Defaults to None: the activation of the student's
            head, which must be softmax.
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``gamma`` is negative, or ``tau`` not greater than 0; if ``use_sigmoid`` is
            True, or the student's head is activated by sigmoid.

    Example:
        >>> import torch
        >>> student, teacher = torch.randn(2, 8, 81)
        >>> labels = torch.randint(-1, 81, (8, ))
        >>> NKDLoss(gamma=1.5)(student, teacher, labels=labels).shape
        torch.Size([])
    """

    needs_softmax = (
        'NKDLoss separates the class of the label from the others, which needs probabilities that '
        'sum to 1; use mmkd.BCKDLoss for sigmoid heads')

    def __init__(self, gamma: float = 1.5, tau: float = 1.0, use_sigmoid: Optional[bool] = None,
                 loss_weight: float = 1.0) -> None:
        super().__init__(tau, use_sigmoid, loss_weight)
        self.gamma = finite_number('gamma', gamma, least=0)

    def compare(self, student: Tensor, teacher: Tensor,  # type: ignore[override]
                weight: Optional[Tensor] = None, *, labels: Tensor) -> Tensor:
        return decoupled(student, teacher, labels, weight_of(labels, student, weight), Formula(
            expected_surprise, 1., self.tau, 1., self.tau**2 * self.gamma, False))

    def notes(self, channels: int) -> List[str]:
        notes = super().notes(channels)
        if notes or channels > 2:
            return notes
        return ['NKDLoss leaves out its non-target part, because 2 columns have only one other '
                'class']


METHOD = Method('nkd', instead=dict(dense='bckd'), roi=[
    dict(type='mmkd.NKDLoss', on='cls')], segmentor=[
    dict(type='mmkd.NKDLoss', on='cls'),
    dict(type='mmkd.NKDLoss', on='aux', loss_weight=0.4, if_there=True)],
    classifier=[dict(type='mmkd.NKDLoss', on='cls')])
