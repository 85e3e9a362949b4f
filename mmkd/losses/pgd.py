"""PGD: features follow where the teacher predicts an object best (Yang et al., 2022).

:Paper: `Prediction-Guided Distillation for Dense Object Detection
    <https://arxiv.org/abs/2203.05469>`_, ECCV 2022, section 3.
:Compares: the output of the first convolution of each branch of a dense head; its neck where the
    head has no such convolutions.
:Defaults: those of the authors for GFL and FCOS. For ATSS they have α 0.08, β 0.04, γ 0.128 and
    K 9 (configs/pgd/atss_r50.py).
:Differs: a position of quality 0 is never a key position; in the authors' code, one outside of the
    box may be, and then has no weight. A variance of 0.1²/12 pixels² is added where the authors add
    noise to the key positions. Of several anchors at a position the best one counts, which the
    paper does not have. The authors also let the student inherit the teacher's neck and head, as
    configs/pgd do, which ``--method`` does not.
:Published: GFL R50, GFL R101 3x ms, 1x: 40.2 -> 43.8 (authors); ATSS R50, ATSS R101 3x ms, 1x:
    39.6 -> 44.2 (authors); FCOS R50, FCOS R101 3x ms, 1x: 38.2 -> 42.5 (authors).
"""
from typing import Dict, List, Optional, Sequence, Tuple

import torch
from torch import Tensor

from ..core.arguments import finite_number, temperature
from ..core.table import LOSSES
from .base import DistillLoss
from .boxes import iou
from .method import Method

SPREAD = 0.1**2 / 12
"""Variance, in pixels², that is added to that of the key positions: of positions in one line, or of
a single one, a Gaussian has no density. The authors add noise of ±0.05 pixels instead."""


class _Guided(DistillLoss):
    """What both losses share: which positions count, and how much."""

    also = ('cls', 'boxes')
    levels = 'all'

    def __init__(self, xi: float, topk: int, tau: float, delta: float,
                 loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        if not 0 <= finite_number('xi', xi) <= 1:
            raise ValueError(f'`xi` must be between 0 and 1, but got {xi}; write a number such as '
                             '0.8')
        if isinstance(topk, bool) or not isinstance(topk, int) or topk < 1:
            raise ValueError(f'`topk` must be an integer of 1 or more, but got {topk!r}; write '
                             'one, such as 30')
        self.xi, self.topk, self.tau = float(xi), topk, temperature(tau)
        self.delta = finite_number('delta', delta, least=0)

    @torch.no_grad()
    def maps(self, student: Sequence[Tensor], teacher_also: Sequence[Sequence[Tensor]],
             priors: Sequence[Tensor], boxes: Sequence[Tensor], box_labels: Sequence[Tensor],
             use_sigmoid: bool = True) -> Tuple[List[Tensor], List[Tensor]]:
        """By level, how much each position counts for objects, and 1 where it is in no box;
        (N, H, W) both."""
        sizes = [one.shape[2] * one.shape[3] for one in student]
        for level, also in zip(student, teacher_also):
            if any(one.shape[2:] != level.shape[2:] for one in also):
                raise ValueError(
                    f"{type(self).__name__} needs maps of the size of the teacher's predictions, "
                    f'{_size(also[0])}, but got {_size(level)}; compare the input levels of the '
                    "teacher's head, such as 'neck'")
        centres = torch.cat([_centres(one, size) for one, size in zip(priors, sizes)])
        logits, decoded = ([one.flatten(2).transpose(1, 2) for one in side]
                           for side in zip(*teacher_also))
        weights, outside = [], []
        for n, (gt, labels) in enumerate(zip(boxes, box_labels)):
            gt, at = gt.to(student[0].dtype), centres.to(student[0].dtype)
            if not len(gt):
                weights.append(at.new_zeros(len(at)))
                outside.append(at.new_ones(len(at)))
                continue
            quality = torch.cat([self.quality(one[n], other[n], gt, labels, use_sigmoid)
                                 for one, other in zip(logits, decoded)])
            inside = ((at[:, None] > gt[:, :2]) & (at[:, None] < gt[:, 2:])).all(2)
            weights.append(importance(quality * inside, at, self.topk))
            outside.append((~inside.any(1)).to(at.dtype))
        shapes = [(len(student[0]), *one.shape[2:]) for one in student]
        return tuple([part.reshape(shape) for part, shape in  # type: ignore[return-value]
                      zip(torch.stack(one).split(sizes, 1), shapes)] for one in (weights, outside))

    def quality(self, logits: Tensor, decoded: Tensor, boxes: Tensor, labels: Tensor,
                use_sigmoid: bool) -> Tensor:
        """q of each position of a level and each box, (H·W, K); of several anchors the best."""
        decoded = decoded.to(boxes.dtype).unflatten(1, (-1, 4))
        logits = logits.to(boxes.dtype).unflatten(1, (decoded.shape[1], -1))
        score = logits.sigmoid() if use_sigmoid else logits.softmax(2)
        return (score[..., labels]**(1 - self.xi) * iou(decoded, boxes)**self.xi).amax(1)


@LOSSES.register
class PGDClsLoss(_Guided):
    r"""Features of the classification head, where the teacher predicts objects best.

    `Prediction-Guided Distillation for Dense Object Detection <https://arxiv.org/abs/2203.05469>`_,
    section 3. The quality of position i for an object b of class c, by the teacher's probability
    :math:`p_{i,c}` and its box :math:`B_i`, is

    .. math:: q_{i,b} = \mathbb{1}[i \in b] \; p_{i,c}^{1-\xi} \; IoU(B_i, b)^\xi

    A Gaussian is fitted, by maximum likelihood, to the K positions of highest quality, over all
    levels. The importance of each of these is :math:`I_i = \exp(-(X_i - \mu)
    \Sigma^{-1} (X_i - \mu)^T / 2)`, the largest where objects overlap; that of all others is 0.
    With :math:`M_i` the importance divided by the number of positions that have one, on this level
    in this image, :math:`\bar M_i` the same for positions in no box, whose importance is 1, spatial
    attention :math:`P_i = HW \, softmax_i(mean_c |F_{i,c}| / \tau)`, and attention over the
    channels of each position, :math:`A_{i,c} = C \, softmax_c(|F_{i,c}| / \tau)`:

    .. math::
        L = \sum_l w_l \frac{1}{N} \sum_{n,i,c} (\alpha M_i + \beta \bar M_i) P^T_i A^T_{i,c}
        (F^T_{i,c} - F^S_{i,c})^2 + \delta \sum_l \frac{1}{N} \sum_n \Big[ \sum_i |P^T_i - P^S_i|
        + \frac{1}{HW} \sum_{i,c} |A^T_{i,c} - A^S_{i,c}| \Big]

    The defaults are those of the authors for GFL, who compare the output of the first convolution
    of each branch. The attentions of the teacher weigh, and have no gradient. A head with several
    anchors at a position, which the paper does not have, counts with the best of them. Beyond the
    paper, a position of quality 0 is none of the K.

    It returns the parts 'foreground', 'background' and 'attention'.

    Args:
        xi (float): ξ, from 0, only classification counts, to 1, only localisation. Defaults to 0.8.
        topk (int): K, positions of an object. Defaults to 30.
        tau (float): τ, temperature of the attentions, greater than 0. Defaults to 0.8.
        alpha (float): α, weight of the objects. Defaults to 0.04.
        beta (float): β, weight of the background. Defaults to 0.02.
        delta (float): δ, weight of the attentions. Defaults to 0.0008.
        level_weights (Sequence[float]): :math:`w_l`, by the number of the level. Defaults to (1,
            1.25, 1.5, 1.75, 2).
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Raises:
        ValueError: If an argument is out of range; when called, if there are more levels than
            ``level_weights``, or the teacher predicts on maps of another size.

    Example:
        >>> loss, features = PGDClsLoss(), torch.randn(2, 1, 8, 4, 4)
        >>> parts = loss(*features, level=0, priors=torch.zeros(16, 4), boxes=[torch.zeros(0, 4)],
        ...              box_labels=[torch.zeros(0).long()],
        ...              teacher_also=[torch.randn(1, 3, 4, 4), torch.randn(1, 4, 4, 4)])
        >>> sorted(parts), parts['foreground'].item()
        (['attention', 'background', 'foreground'], 0.0)
    """

    def __init__(self, xi: float = 0.8, topk: int = 30, tau: float = 0.8, alpha: float = 0.04,
                 beta: float = 0.02, delta: float = 0.0008,
                 level_weights: Sequence[float] = (1., 1.25, 1.5, 1.75, 2.),
                 loss_weight: float = 1.0) -> None:
        super().__init__(xi, topk, tau, delta, loss_weight)
        self.alpha = finite_number('alpha', alpha, least=0)
        self.beta = finite_number('beta', beta, least=0)
        self.level_weights = [finite_number('level_weights', one, least=0)
                              for one in level_weights]

    def compare(self, student: List[Tensor], teacher: List[Tensor], *, boxes: List[Tensor],
                box_labels: List[Tensor], priors: List[Tensor], level: List[int],
                teacher_also: List[List[Tensor]],
                also_sigmoid: Optional[Sequence[Optional[bool]]] = None) -> Dict[str, Tensor]:
        if max(level) >= len(self.level_weights):
            raise ValueError(f'PGDClsLoss has {len(self.level_weights)} `level_weights`, but '
                             f'compares level {max(level)}; write one for each level')
        importances, outside = self.maps(student, teacher_also, priors, boxes, box_labels,
                                    also_sigmoid is None or bool(also_sigmoid[0]))
        objects, background, attention = (student[0].new_zeros(()) for _ in range(3))
        for number, s, t, m, o in zip(level, student, teacher, importances, outside):
            at_student, at_teacher = (attentions(one, self.tau) for one in (s, t))
            error = (at_teacher[0] * (at_teacher[1] * (t - s).square()).sum(1)) / len(s)
            error = self.level_weights[number] * error
            objects = objects + (_shared(m) * error).sum()
            background = background + (_shared(o) * error).sum()
            spatial, channel = ((a - b).abs() for a, b in zip(at_student, at_teacher))
            attention = attention + (spatial.sum() + channel.sum(1).mean((1, 2)).sum()) / len(s)
        return dict(foreground=self.alpha * objects, background=self.beta * background,
                    attention=self.delta * attention)


@LOSSES.register
class PGDRegLoss(_Guided):
    r"""Features of the regression head, where the teacher predicts objects best.

    `Prediction-Guided Distillation for Dense Object Detection <https://arxiv.org/abs/2203.05469>`_,
    section 3, with importance :math:`I_i` and attention :math:`A_{i,c}` of :class:`PGDClsLoss`.
    Over the positions :math:`T_l` of a level, of all images, that have an importance:

    .. math:: L = \sum_l \frac{1}{|T_l|} \sum_{i \in T_l} \Big[ \gamma I_i \frac{1}{C} \sum_c
        A^T_{i,c} (F^T_{i,c} - F^S_{i,c})^2 + \delta \sum_c |A^T_{i,c} - A^S_{i,c}| \Big]

    The defaults are those of the authors for GFL. It returns the parts 'foreground' and
    'attention', both 0 in a batch without objects.

    Args:
        xi (float): ξ, from 0, only classification counts, to 1, only localisation. Defaults to 0.6.
        topk (int): K, positions of an object. Defaults to 30.
        tau (float): τ, temperature of the attention, greater than 0. Defaults to 0.8.
        gamma (float): γ, weight of the features. Defaults to 0.064.
        delta (float): δ, weight of the attention. Defaults to 0.0008.
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Raises:
        ValueError: If an argument is out of range; when called, if the teacher predicts on maps of
            another size.

    Example:
        >>> loss, features = PGDRegLoss(), torch.randn(2, 1, 8, 4, 4)
        >>> parts = loss(*features, priors=torch.zeros(16, 4), boxes=[torch.zeros(0, 4)],
        ...              box_labels=[torch.zeros(0).long()],
        ...              teacher_also=[torch.randn(1, 3, 4, 4), torch.randn(1, 4, 4, 4)])
        >>> sorted(parts), parts['foreground'].item()
        (['attention', 'foreground'], 0.0)
    """

    def __init__(self, xi: float = 0.6, topk: int = 30, tau: float = 0.8, gamma: float = 0.064,
                 delta: float = 0.0008, loss_weight: float = 1.0) -> None:
        super().__init__(xi, topk, tau, delta, loss_weight)
        self.gamma = finite_number('gamma', gamma, least=0)

    def compare(self, student: List[Tensor], teacher: List[Tensor], *, boxes: List[Tensor],
                box_labels: List[Tensor], priors: List[Tensor],
                teacher_also: List[List[Tensor]],
                also_sigmoid: Optional[Sequence[Optional[bool]]] = None) -> Dict[str, Tensor]:
        importances, _ = self.maps(student, teacher_also, priors, boxes, box_labels,
                                    also_sigmoid is None or bool(also_sigmoid[0]))
        objects, attention = (student[0].new_zeros(()) for _ in range(2))
        for s, t, m in zip(student, teacher, importances):
            at_student, at_teacher = (attentions(one, self.tau)[1] for one in (s, t))
            is_key = m > 0
            count = is_key.sum().clamp(min=1)
            error = (at_teacher * (t - s).square()).mean(1)
            objects = objects + (m * error).sum() / count
            attention = attention + (is_key * (at_student - at_teacher).abs().sum(1)).sum() / count
        return dict(foreground=self.gamma * objects, attention=self.delta * attention)


def importance(quality: Tensor, centres: Tensor, topk: int) -> Tensor:
    """How much each position counts, as the K of highest quality lie around their mean.

    Args:
        quality (Tensor): (M, K objects), 0 where a position is none of the object's.
        centres (Tensor): (M, 2), in pixels.
        topk (int): Positions of an object, at most.

    Returns:
        Tensor: (M,), 0 to 1: the largest of the objects'.
    """
    values, index = quality.T.topk(min(topk, len(quality)), dim=1)
    is_key = (values > 0).to(quality.dtype)
    count = is_key.sum(1).clamp(min=1)
    at = centres[index]
    mean = (at * is_key.unsqueeze(2)).sum(1) / count.unsqueeze(1)
    x, y = ((at - mean.unsqueeze(1)) * is_key.unsqueeze(2)).unbind(2)
    # The inverse of a 2x2 matrix by hand: torch's makes the CPU wait for a GPU.
    xx, yy = ((one.square().sum(1) / count + SPREAD).unsqueeze(1) for one in (x, y))
    xy = ((x * y).sum(1) / count).unsqueeze(1)
    distance = (yy * x.square() - 2 * xy * x * y + xx * y.square()) / (xx * yy - xy.square())
    density = is_key * torch.exp(-distance / 2)
    return torch.zeros_like(quality.T).scatter(1, index, density).amax(0)


def attentions(features: Tensor, tau: float) -> Tuple[Tensor, Tensor]:
    """Of (N, C, H, W): H·W times a softmax over positions, (N, H, W); C times a softmax over the
    channels of each position, (N, C, H, W)."""
    size = features.abs()
    spatial = (size.mean(1) / tau).flatten(1).softmax(1) * features[0, 0].numel()
    return spatial.unflatten(1, features.shape[2:]), features.shape[1] * (size / tau).softmax(1)


def _centres(priors: Tensor, positions: int) -> Tensor:
    """(H·W, 2), of anchors (H·W·anchors, 4), which share it at a position, or points (H·W, 2)."""
    centres = priors if priors.shape[1] == 2 else (priors[:, :2] + priors[:, 2:]) / 2
    return centres.unflatten(0, (positions, -1)).mean(1)


def _shared(weights: Tensor) -> Tensor:
    """Weights (N, H, W), divided by how many of an image are not 0."""
    return weights / (weights > 0).sum((1, 2), keepdim=True).clamp(min=1)


def _size(level: Tensor) -> str:
    return 'x'.join(map(str, level.shape[2:]))


METHOD = Method('pgd', dense=[
    dict(type='mmkd.PGDClsLoss', on=('bbox_head.cls_convs.0', 'neck'), name='loss_pgd_cls'),
    dict(type='mmkd.PGDRegLoss', on=('bbox_head.reg_convs.0', 'neck'), name='loss_pgd_reg')])
