"""LD: distributions of a box's four distances, near objects and around them (Zheng et al., 2022).

:Paper: `Localization Distillation for Dense Object Detection <https://arxiv.org/abs/2102.12252>`_,
    CVPR 2022, and `Localization Distillation for Object Detection
    <https://arxiv.org/abs/2204.05957>`_, TPAMI 2023: sections 3.1 to 3.3, algorithm 1.
:Compares: the bins of GFL, 17 for each side of a box, at the point 'reg'; with the class logits of
    the same head for the weights and the part 'kd'. Heads without bins are refused.
:Defaults: the authors' config for GFL: main and valuable region 0.25 with τ = 10, classes of
    positives 10 with τ = 2. Their config for R50 adds imitation of the neck at fine-grained
    positions with weight 2, which is not in here.
:Differs: in the valuable region a position counts with its IoU, as in the authors' code; the paper
    has no such factor. LDHead of mmdet has only the main region. The two parts of boxes
    are sums, not divided by the number of positives, as in the authors' code, whose box loss is: so
    they grow with the images of a GPU (the authors use 2 or 3).
:Published: GFL R50, R101 (44.9), 1x, main region: 40.1 -> 41.1 (authors' README); the same with the
    valuable region and classes: 40.1 -> 42.1 (authors' README); GFL R34, R101, 1x, main region:
    38.9 -> 39.8 (authors' README); GFL R18, R101, 1x, main region: 35.8 -> 36.5 (authors' README)
"""
from typing import Dict, List, Optional, Tuple

import torch
from torch import Tensor

from ..core.arguments import finite_number, temperature, whole_number
from ..core.table import LOSSES
from .base import DistillLoss
from .boxes import diou, iou
from .kd import KDLoss
from .method import Method


@LOSSES.register
class LDLoss(DistillLoss):
    r"""Divergence of the distributions of distances, on the main and on the valuable region.

    `Localization Distillation <https://arxiv.org/abs/2204.05957>`_, sections 3.1 to 3.3. A head
    such as GFL predicts B bins for the distance of each side e of a box. Of position m:

    .. math:: LD_m = \tau^2 \sum_{e=1}^{4} \frac{1}{B} \, KL\big( softmax(t_{m,e} / \tau) \,\|\,
        softmax(s_{m,e} / \tau) \big)

    With the student's class scores p, without gradient, the positives P of its own loss, and the
    valuable region V, the parts are

    .. math::
        main = \lambda \sum_{m \in P} \max_c p_{m,c} \, LD_m / 4, \quad
        valuable = \lambda_V \sum_{m \in V} IoU_m \, LD_m / 16, \quad
        kd = \lambda_K \sum_l \frac{1}{|P_l|} \sum_{m \in P_l} w_m \frac{\tau_K^2}{C} KL\big(
        softmax(t^{cls}_m / \tau_K) \,\|\, softmax(s^{cls}_m / \tau_K) \big)

    An anchor is in V for an object if 0.25 t <= DIoU < t, where t is the threshold of ATSS: mean
    and standard deviation of the IoU of the k anchors of each level that are nearest to the centre
    of the object. :math:`IoU_m` is the largest of those objects'. With ``levels=`` in the entry,
    the sums are over the chosen levels; t is that of all levels of the student.

    Args:
        main (float): λ. Defaults to 0.25.
        valuable (float): :math:`\lambda_V`. Defaults to 0.25.
        kd (float): :math:`\lambda_K`. Defaults to 10.
        tau (float): τ, greater than 0. Defaults to 10.
        kd_tau (float): :math:`\tau_K`, greater than 0. Defaults to 2.
        gamma (float): Share of t at which V begins. Defaults to 0.25.
        topk (int): k. Defaults to 9.
        loss_weight (float): Factor of all parts. Defaults to 1.0.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If one is out of range; when called, if the boxes are not distributions, or the
            head predicts from points instead of anchors.

    Example:
        >>> bins = torch.randn(2, 1, 4 * 17, 4, 4)
        >>> x, y = torch.arange(4.).repeat(4) * 8, torch.arange(4.).repeat_interleave(4) * 8
        >>> parts = LDLoss()(
        ...     *bins, labels=torch.full((1, 4, 4), 3), label_weights=torch.ones(1, 4, 4),
        ...     priors=torch.stack([x - 32, y - 32, x + 32, y + 32], 1),
        ...     boxes=[torch.tensor([[0., 0., 40., 40.]])],
        ...     student_also=[torch.randn(1, 3, 4, 4)], teacher_also=[torch.randn(1, 3, 4, 4)])
        >>> {part: bool(value > 0) for part, value in parts.items()}
        {'main': False, 'valuable': True, 'kd': False}
    """

    also = ('cls', )
    levels = 'all'

    def __init__(self, main: float = 0.25, valuable: float = 0.25, kd: float = 10.,
                 tau: float = 10., kd_tau: float = 2., gamma: float = 0.25, topk: int = 9,
                 loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.main, self.valuable, self.kd = (
            finite_number(name, value, least=0)
            for name, value in (('main', main), ('valuable', valuable), ('kd', kd)))
        self.tau, self.kd_tau = temperature(tau), temperature(kd_tau)
        self.gamma = finite_number('gamma', gamma, least=0)
        self.topk = whole_number('topk', topk, least=1)

    def compare(self, student: List[Tensor], teacher: List[Tensor], *, labels: List[Tensor],
                label_weights: List[Tensor], priors: List[Tensor], boxes: List[Tensor],
                student_also: List[List[Tensor]], teacher_also: List[List[Tensor]],
                left_out_labels: Optional[List[Tensor]] = None,
                left_out_priors: Optional[List[Tensor]] = None) -> Dict[str, Tensor]:
        check_bins(type(self).__name__, student[0])
        regions = [torch.zeros_like(one, dtype=student[0].dtype) for one in labels]
        if self.valuable:
            # The threshold of ATSS is that of all levels of the student, compared or not.
            regions = self.regions([*labels, *(left_out_labels or [])],
                                   [*priors, *(left_out_priors or [])], boxes, student[0].dtype)
        parts: Dict[str, List[Tensor]] = dict(main=[], valuable=[], kd=[])
        kd = KDLoss(self.kd_tau, use_sigmoid=False)
        for s, t, label, own, region, (s_cls, ), (t_cls, ) in zip(
                student, teacher, labels, label_weights, regions, student_also, teacher_also):
            s_cls, t_cls = s_cls.to(s.dtype), t_cls.to(s.dtype)
            is_positive = ((label >= 0) & (label < s_cls.shape[1])).to(s.dtype)
            divergence = divergence_of_bins(s, t, self.tau) / (s.shape[1] // 4)
            score = s_cls.detach().amax(1).sigmoid()
            parts['main'].append((self.main / 4) * (is_positive * score * divergence).sum())
            parts['valuable'].append((self.valuable / 16) * (region * divergence).sum())
            if self.kd:
                weight = is_positive * own.to(s.dtype)
                # The mean of KDLoss is over weights, the authors' over positives.
                share = weight.sum() / (s_cls.shape[1] * is_positive.sum().clamp(min=1))
                parts['kd'].append(self.kd * share * kd(s_cls, t_cls, weight))
        return {name: torch.stack(values).sum() if values else student[0].new_zeros(())
                for name, values in parts.items()}

    @torch.no_grad()
    def regions(self, labels: List[Tensor], priors: List[Tensor], boxes: List[Tensor],
                dtype: torch.dtype) -> List[Tensor]:
        """By level, the IoU of each position in the valuable region, 0 outside; (N·anchors, H, W).
        """
        if priors[0].shape[1] != 4:
            raise ValueError('the valuable region of LDLoss needs anchors, but the student '
                             'predicts from points; write `valuable=0` to leave it out')
        sizes = [len(one) for one in priors]
        grids = [(one.shape[1], one.shape[2], size // one[0].numel())
                 for one, size in zip(labels, sizes)]
        # Positions in the padding of an image are ignored by its own loss and are not candidates.
        is_used = torch.cat([(one >= 0).view(len(boxes), anchors, height, width).permute(
            0, 2, 3, 1).flatten(1) for one, (height, width, anchors) in zip(labels, grids)], 1)
        anchors = torch.cat(priors).to(dtype)
        found = torch.stack([
            valuable_region(anchors, sizes, gt.to(dtype), used, self.topk, self.gamma)
            for gt, used in zip(boxes, is_used)])
        return [one.view(len(boxes), *grid).permute(0, 3, 1, 2).flatten(0, 1)
                for one, grid in zip(found.split(sizes, 1), grids)]


def valuable_region(anchors: Tensor, sizes: List[int], boxes: Tensor, is_used: Tensor, topk: int,
                    gamma: float) -> Tensor:
    """The IoU of each anchor of an image in the valuable region of an object, 0 outside of all.

    Args:
        anchors (Tensor): (M, 4), of all levels.
        sizes (list[int]): Anchors of each level.
        boxes (Tensor): (K, 4), the objects.
        is_used (Tensor): Bool (M,).
        topk (int): Candidates of a level, for the threshold.
        gamma (float): Share of the threshold at which the region begins.

    Returns:
        Tensor: (M,).
    """
    if not len(boxes):
        return anchors.new_zeros(len(anchors))
    overlaps = iou(anchors, boxes)
    centres, others = ((one[:, :2] + one[:, 2:]) / 2 for one in (anchors, boxes))
    distances = (centres[:, None] - others).square().sum(2)
    distances = distances.masked_fill(~is_used.unsqueeze(1), float('inf'))
    candidates: List[Tuple[Tensor, Tensor]] = []
    for of_level, its in zip(distances.split(sizes), overlaps.split(sizes)):
        nearest, index = of_level.topk(min(topk, len(of_level)), dim=0, largest=False)
        candidates.append((its.gather(0, index), nearest.isfinite()))
    values, is_one = (torch.cat(one) for one in zip(*candidates))
    count = is_one.sum(0).clamp(min=1)
    mean = (values * is_one).sum(0) / count
    variance = ((values - mean).square() * is_one).sum(0) / (count - 1).clamp(min=1)
    threshold = mean + variance.sqrt()
    between = diou(anchors, boxes)
    is_in = (between >= gamma * threshold) & (between < threshold) & is_used.unsqueeze(1)
    return (overlaps * is_in).amax(1)


def divergence_of_bins(student: Tensor, teacher: Tensor, tau: float) -> Tensor:
    """τ² times the Kullback-Leibler divergence of softmax(bins / τ), summed over the four sides.

    Args:
        student (Tensor): Float (N, 4·bins, H, W), all bins of a side in a row.
        teacher (Tensor): The same shape.
        tau (float): τ.

    Returns:
        Tensor: (N, H, W).
    """
    log_p, log_q = ((one.unflatten(1, (4, -1)) / tau).log_softmax(2) for one in (student, teacher))
    return tau**2 * (log_q.exp() * (log_q - log_p)).sum((1, 2))


def check_bins(name: str, level: Tensor) -> None:
    """Refuse boxes that are not distributions.

    Raises:
        ValueError: If a side does not have two bins or more.
    """
    if level.shape[1] % 4 or level.shape[1] < 8:
        raise ValueError(
            f'{name} compares distributions of distances, bins for each of the four sides of a box '
            f'as in GFL, but got {level.shape[1]} numbers per box; use a student and a teacher '
            "with such a head, or use mmkd.BCKDBoxLoss at 'boxes'")


METHOD = Method('ld', dense=[dict(type='mmkd.LDLoss', on='reg')])
