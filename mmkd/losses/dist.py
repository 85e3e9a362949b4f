"""DIST: Pearson's correlation between classes and within classes (Huang et al., 2022).

:Paper: `Knowledge Distillation from A Stronger Teacher <https://arxiv.org/abs/2205.10536>`_,
    NeurIPS 2022, equations 9 to 11.
:Compares: class logits: of each level of a dense head, the anchors of a position jointly, after a
    sigmoid; of the RoIs that the student sampled, with the first stage of a cascade teacher; of
    pixels before upsampling, and of the auxiliary head of a segmentor; of images.
:Defaults: β = γ = τ = 1, weight 1, 0.4 on the auxiliary head: the authors' for detectors and
    segmentors. Classifiers: weight 2, theirs for ImageNet; on CIFAR-100 they also have τ = 4.
:Differs: over one or two columns the inter-class part is constant and left out. mmrazor 1.x takes
    the intra-class part of a map over the images of the batch, and has no sigmoid. Relations are
    those of one process, as the authors'; ``sync=True`` has them over all processes.
:Published: RetinaNet R50, RetinaNet X101-64x4d (41.0), 2x: 37.4 -> 39.8, with mimic 40.1 (README);
    Faster R-CNN R50, Cascade Mask R-CNN X101-64x4d (45.6), 2x: 38.4 -> 40.4, with mimic 41.8
    (README); PSPNet R18, DeepLabV3 R101 (78.07), 40k: 72.55 -> 76.31 (README); DeepLabV3 R18,
    DeepLabV3 R101 (78.07), 40k: 74.21 -> 77.10 (README; best of 100 validations)
"""
from typing import Any, List, Optional, Tuple

import torch
from torch import Tensor

from ..core.arguments import finite_number, true_or_false
from ..core.table import LOSSES
from .fast.closed_form import EPS, dist
from .fast.pieces import as_maps
from .logits import LogitLoss, weighted_mean
from .method import Method

LEAST_COLUMNS = 3
"""Over fewer columns Pearson's correlation is constant: 1 or -1 for two numbers, 0 for one."""


@LOSSES.register
class DISTLoss(LogitLoss):
    r"""One minus Pearson's correlation, over the classes of a position and the positions of a
    class.

    `Knowledge Distillation from A Stronger Teacher <https://arxiv.org/abs/2205.10536>`_, equations
    9 to 11. With :math:`P = act(logits / \tau)` as a matrix of M positions (of all images) times
    C classes and :math:`\rho` Pearson's correlation:

    - inter-class: :math:`1 - \frac{1}{M} \sum_m \rho(P^S_{m,:}, P^T_{m,:})`,
    - intra-class: :math:`1 - \frac{1}{C} \sum_c \rho(P^S_{:,c}, P^T_{:,c})`,

    and the loss is :math:`\tau^2 (\beta \cdot inter + \gamma \cdot intra)`. As in the authors'
    code, a row or column that is constant on either side has :math:`\rho = 0`. All positions,
    background and ignored pixels included, have equal weight by default; with ``weight`` the mean
    over positions and the moments of each class are weighted.

    The inter-class relation needs at least three columns. Over fewer, it is constant (the
    correlation of two numbers is 1 or -1, that of one number 0), so it is left out: only the
    intra-class relation remains, and equal inputs give 0. With softmax over one column the loss
    is 0. For one or two classes, such as binary segmentation or a detector of one class, consider
    :class:`mmkd.KDLoss`. In a head with several anchors, sigmoid, and ``per_anchor`` unset, the
    columns of a position are those of all its anchors.

    Args:
        beta (float): Weight of the inter-class relation. Defaults to 1.0.
        gamma (float): Weight of the intra-class relation. Defaults to 1.0.
        tau (float): Temperature, greater than 0. Defaults to 1.0.
        use_sigmoid (bool, optional): Sigmoid or softmax. Defaults to None: the activation of the
            student's head inside a Distiller, softmax otherwise.
        loss_weight (float): Factor of the result. Defaults to 1.0.
        sync (bool): Whether the relations are computed over the positions of all processes. The
            value, and the gradients after the distributed wrapper has averaged them, then equal
            those of one process with the whole batch. Defaults to False, each process computes
            them over its own positions.

    Example:
        >>> logits = torch.randn(8, 5)
        >>> abs(DISTLoss()(logits, logits).item()) < 1e-4
        True
    """

    def __init__(self,
                 beta: float = 1.0,
                 gamma: float = 1.0,
                 tau: float = 1.0,
                 use_sigmoid: Optional[bool] = None,
                 loss_weight: float = 1.0,
                 sync: bool = False) -> None:
        super().__init__(tau, use_sigmoid, loss_weight)
        self.sync = self.communicates = true_or_false('sync', sync)
        self.beta = finite_number('beta', beta, least=0)
        self.gamma = finite_number('gamma', gamma, least=0)

    def compare(self, student: Tensor, teacher: Tensor, weight: Optional[Tensor] = None,
                **named: Any) -> Tensor:
        return self.tau**2 * dist(*as_maps(student, teacher, weight), self.tau,
                                  bool(self.use_sigmoid), *self._weights(student.shape[1]),
                                  self.sync)

    def compare_rows(self, student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
        """The formula above, by autograd. :meth:`compare` computes the same value by
        :mod:`mmkd.losses.fast.closed_form`, in less time and memory."""
        if self.use_sigmoid:
            student, teacher = student.sigmoid(), teacher.sigmoid()
        else:
            student, teacher = student.softmax(1), teacher.softmax(1)
        inter = 1 - weighted_mean(pearson(student.T, teacher.T), weight)
        intra = 1 - pearson(student, teacher, weight).mean()
        beta, gamma = self._weights(student.shape[1])
        return beta * inter + gamma * intra

    def _weights(self, columns: int) -> Tuple[float, float]:
        """Weights of the two relations; 0 for a relation that is constant."""
        is_probability_1 = columns == 1 and not self.use_sigmoid
        return (0. if columns < LEAST_COLUMNS else self.beta,
                0. if is_probability_1 else self.gamma)

    def notes(self, channels: int) -> List[str]:
        notes = super().notes(channels)
        if notes or channels >= LEAST_COLUMNS or not self.beta:
            return notes
        left = ('only compares within classes' if self.gamma else
                'is 0 with `gamma=0`')
        return [f'DISTLoss leaves out its inter-class part, which is constant over {channels} '
                f'column{"s" * (channels > 1)}, and {left}; mmkd.KDLoss has no such limit']


def pearson(a: Tensor, b: Tensor, weight: Optional[Tensor] = None) -> Tensor:
    """Pearson's correlation of each column of ``a`` with the same column of ``b``.

    Args:
        a (Tensor): Float (M, C).
        b (Tensor): Float (M, C).
        weight (Tensor, optional): Float (M,), weight of each row, not all zero. Defaults to None.

    Returns:
        Tensor: (C,) in [-1, 1]; 0, with a finite gradient, where a column is constant.
    """
    if weight is None:
        a, b = a - a.mean(0), b - b.mean(0)
    else:
        root = weight.sqrt().unsqueeze(1)
        a, b = root * (a - weighted_mean(a, weight)), root * (b - weighted_mean(b, weight))
    # In torch the gradient of the norm at 0 is 0, so a constant column has a finite gradient.
    return (a * b).sum(0) / (torch.norm(a, dim=0) * torch.norm(b, dim=0) + EPS)


METHOD = Method('dist', [
    dict(type='mmkd.DISTLoss', on='cls'),
    dict(type='mmkd.DISTLoss', on='aux', loss_weight=0.4, if_there=True)],
    classifier=[dict(type='mmkd.DISTLoss', on='cls', loss_weight=2.0)])
