"""KT: the teacher's features and logits are adapted to the student first (Cheung et al., 2025).

:Paper: `Knowledge Tailoring: Bridging the teacher-student gap in semantic segmentation
    <https://doi.org/10.1016/j.patcog.2025.112399>`_, Pattern Recognition 172, 2025.
:Compares: the features before the classifier of a segmentor, and its logits. CWD on the logits is
    added, with 0.4 on those of the auxiliary head.
:Defaults: those of the authors' code; the tuning point is that of 40000 iterations.
:Differs: the authors' optimizer lacks the layers, which stay as they were initialized; here they
    are trained. The formulas are those of the authors' code; the paper could not be read.
:Published: DeepLabV3-R18, DeepLabV3-R101 (78.07), Cityscapes 40k: 74.21 -> 77.98 (authors);
    PSPNet-R18, DeepLabV3-R101, Cityscapes 40k: 72.55 -> 76.49 (authors).
"""
from typing import Dict, FrozenSet, List, Tuple

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    interpolate,
    log_softmax,
    normalize,
    one_hot,
    triplet_margin_loss,
)

from ..core.arguments import temperature
from ..core.table import LOSSES
from .base import DistillLoss
from .method import Method


@LOSSES.register
class KTLoss(DistillLoss):
    r"""Feature tailoring and logit tailoring, of segmentors.

    `Knowledge Tailoring: Bridging the teacher-student gap in semantic segmentation
    <https://doi.org/10.1016/j.patcog.2025.112399>`_ (Pattern Recognition 172, 2025), its two parts
    of these names. The formulas are those of `the authors' code
    <https://github.com/seok-hwa/KT>`_ (``train_KT.py``, ``losses/KT.py``, ``models/tailoring.py``).

    All divergences are channel by channel, over the positions i of a map, with
    :math:`p(x) = softmax(x / \tau)`:

    .. math:: D(S, T) = \frac{\tau^2}{N C} \sum_{n,c,i} p(T)_{n,c,i} \log\frac{p(T)_{n,c,i}}
        {p(S)_{n,c,i}}

    *Feature tailoring.* With rows of unit length :math:`\hat F` (channels, positions), the channel
    correlation map is :math:`M = \hat F^T (\hat F^S)^\top`. Until the tuning point, the student's
    features are tailored to the teacher's channels: :math:`F^{high} = \phi(M F^S)` and
    :math:`F^{low} = \phi((1 - M) F^S)`, :math:`L_{FT} = D(F^{high}, F^T)`, and the contrastive
    loss is the triplet loss (margin 1) of anchor :math:`A(F^S)`, positive :math:`F^{high}`,
    negative :math:`F^{low}`. From the tuning point on, the teacher's are tailored to the student's
    channels: :math:`F^{high} = \psi(M^\top F^T)`, :math:`L_{FT} = D(F^S, F^{high})`, where the
    target has no gradient, and the anchor is :math:`F^S`. :math:`\phi` and :math:`\psi` are three
    1x1 convolutions with ReLU between, with half of the channels inside; A is one, without bias.
    As in the authors' code, the distances of the triplets are those of rows of a map.

    *Logit tailoring.* Logits z, enlarged to the map of labels by their nearest neighbours, become

    .. math:: z^{class}_{k} = m_k \max(z_k, \mu_k), \quad
        z^{non}_{k} = (1 - m_k) \min((1 - m_k) z_k, \nu_k)

    where :math:`m_k` is the mask of class k, :math:`\mu_k` the mean of the positive logits inside
    (without such, nothing is raised), and :math:`\nu_k` the mean of :math:`(1 - m_k) z_k` over the
    whole map. :math:`L_{LT} = D(z^S, z^{T,class} + z^{T,non}) + D(z^{S,class}, z^{T,class}) +
    D(z^{S,non}, z^{T,non})`. Ignored pixels lie outside of every class.

    The point is the features before the classifier, and ``also`` names the logits. What the
    authors call KD of the logits is channel-wise, too, and another entry::

        distill=[dict(type='mmkd.KTLoss', on='features', also=['cls']),
                 dict(type='mmkd.CWDLoss', on='cls', tau=4.)]

    The authors' optimizer lacks the layers, which stay as they were made; here they are trained.

    Args:
        tau (float): Temperature of the tailoring, greater than 0. Defaults to 4.0.
        tuning_point (int): Change point of knowledge tailoring: the iteration, from 1, from which
            the teacher's features are tailored. Defaults to 10000, of the authors' 40000.
        lambda_mask (float): Weight of logit tailoring. Defaults to 1.0.
        lambda_custom (float): Weight of feature tailoring. Defaults to 1.0.
        lambda_contrastive (float): Weight of the contrastive loss. Defaults to 1.0.
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Raises:
        ValueError: If ``tau`` is not greater than 0; when called, if there is not one further
            point, or its logits are not maps.

    Example:
        >>> KTLoss(lambda_mask=2.0).lambda_mask
        2.0
    """

    must_match: FrozenSet[str] = frozenset({'positions'})  # either side is tailored to the other

    def __init__(self, tau: float = 4.0, tuning_point: int = 10000, lambda_mask: float = 1.0,
                 lambda_custom: float = 1.0, lambda_contrastive: float = 1.0,
                 loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.tau = temperature(tau)
        self.tuning_point, self.lambda_mask = tuning_point, lambda_mask
        self.lambda_custom, self.lambda_contrastive = lambda_custom, lambda_contrastive

    def setup(self, student_channels: int, teacher_channels: int) -> None:
        self.student_tail = _tail(teacher_channels)
        self.teacher_tail = _tail(student_channels)
        self.anchor = nn.Conv2d(student_channels, teacher_channels, 1, bias=False)

    def compare(self, student: Tensor, teacher: Tensor, *, iteration: int, label_map: Tensor,
                student_also: List[Tensor], teacher_also: List[Tensor]) -> Dict[str, Tensor]:
        if len(student_also) != 1:
            raise ValueError(f'KTLoss compares the logits of one further point, but got '
                             f"{len(student_also)}; write also=['cls']")
        feature, contrast = self._tailored_features(student, teacher, iteration)
        logit = _logit_tailoring(student_also[0], teacher_also[0], label_map, self.tau)
        return dict(feature=self.lambda_custom * feature,
                    contrast=self.lambda_contrastive * contrast, logit=self.lambda_mask * logit)

    def _tailored_features(self, student: Tensor, teacher: Tensor, iteration: int
                           ) -> Tuple[Tensor, Tensor]:
        """Feature tailoring and its contrastive loss."""
        correlation = torch.einsum('nci,ndi->ncd', normalize(teacher.flatten(2), dim=2),
                                   normalize(student.flatten(2), dim=2))
        if iteration + 1 < self.tuning_point:
            high, low = (self.student_tail(_mix(map_, student))
                         for map_ in (correlation, 1 - correlation))
            feature, anchor = _divergence(high, teacher, self.tau), self.anchor(student)
        else:
            correlation = correlation.transpose(1, 2)
            high, low = (self.teacher_tail(_mix(map_, teacher))
                         for map_ in (correlation, 1 - correlation))
            feature, anchor = _divergence(student, high.detach(), self.tau), student
        return feature, triplet_margin_loss(anchor, high, low, margin=1.0, eps=1e-7)


def _divergence(student: Tensor, teacher: Tensor, tau: float) -> Tensor:
    """Channel by channel, of where each is active."""
    s, t = (log_softmax(side.flatten(2) / tau, dim=2) for side in (student, teacher))
    return tau**2 * (t.exp() * (t - s)).sum(2).mean()


def _logit_tailoring(student: Tensor, teacher: Tensor, label_map: Tensor, tau: float) -> Tensor:
    if student.dim() != 4:
        raise ValueError('logit tailoring compares maps (N, C, H, W), but got '
                         f"{tuple(student.shape)}; compare 'cls' of a segmentor")
    classes = student.shape[1]
    mask = one_hot(label_map.where(label_map >= 0, classes), classes + 1)[..., :classes]
    mask = mask.movedim(-1, 1).bool()
    student, teacher = (interpolate(side, label_map.shape[1:]) for side in (student, teacher))
    (own, own_rest), (other, other_rest) = (_cut(side, mask) for side in (student, teacher))
    return (_divergence(student, other + other_rest, tau) + _divergence(own, other, tau)
            + _divergence(own_rest, other_rest, tau))


def _tail(channels: int) -> nn.Sequential:
    hidden = max(channels // 2, 1)
    return nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, hidden, 1),
                         nn.ReLU(), nn.Conv2d(hidden, channels, 1))


def _mix(map_: Tensor, features: Tensor) -> Tensor:
    return torch.einsum('ncd,ndhw->nchw', map_, features)


def _cut(logits: Tensor, mask: Tensor) -> Tuple[Tensor, Tensor]:
    """Low logits inside of a class are raised, high ones outside are lowered."""
    inside, outside = logits * mask, logits * ~mask
    is_high = inside > 0
    count = is_high.sum((2, 3), keepdim=True)
    mean = (inside * is_high).sum((2, 3), keepdim=True) / count.clamp(min=1)
    inside = torch.where((inside < mean) & (count > 0), mean, inside) * mask
    mean = outside.mean((2, 3), keepdim=True)
    return inside, torch.where(outside > mean, mean, outside) * ~mask


METHOD = Method('kt', segmentor=[
    dict(type='mmkd.KTLoss', on='features', also=['cls']),
    dict(type='mmkd.CWDLoss', on='cls', tau=4.),
    dict(type='mmkd.CWDLoss', on='aux', tau=4., loss_weight=0.4, if_there=True)])
