"""RKD: distances of pairs and angles of triples of images (Park et al., 2019).

:Paper: `Relational Knowledge Distillation <https://arxiv.org/abs/1904.05068>`_, CVPR 2019, section
    3.2, equations 5 to 10 (their numbers are from memory).
:Compares: the deepest level of the backbone, averaged over its positions. Channels and sizes of
    both sides may differ.
:Defaults: 25 for distances and 50 for angles, the paper's for classifiers, as RepDistiller and
    mmrazor have them. The authors' code, which is for metric learning, has 1 and 2. No values for
    detectors or segmentors are published.
:Differs: angles are computed from inner products, which takes memory for B³ numbers instead of
    B²(B + C); a pair of rows that differ by rounding alone has no direction. By default the images
    of all processes are related (``sync``); the authors' code has one process. mmrazor divides rows
    by their length first, the authors do not.
:Published: CIFAR-100 classifiers, ResNet-8x4, ResNet-32x4 (79.42), 240 epochs: 72.50 -> 71.90
    (RepDistiller). Nothing for detectors and segmentors.
"""
from typing import Dict, NamedTuple, Optional

import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from ..core.arguments import finite_number
from ..core.table import LOSSES
from .images import ImageRelationLoss
from .method import Method

EPS = 1e-12
"""Least squared distance of two images, as in the authors' code."""

ROUNDING = 64
"""Squared distances below so many units of rounding are taken for 0: they have no direction."""


@LOSSES.register
class RKDLoss(ImageRelationLoss):
    r"""Huber loss of the distances, and of the angles, between images.

    `Relational Knowledge Distillation <https://arxiv.org/abs/1904.05068>`_, section 3.2. With one
    row of features per image, :math:`f_1, \dots, f_B`, and :math:`l(x) = x^2 / 2` for
    :math:`|x| < 1`, :math:`|x| - 1/2` otherwise:

    .. math::
        L = \frac{\lambda_D}{B^2} \sum_{i,j} l(\psi^S_{ij} - \psi^T_{ij}) +
        \frac{\lambda_A}{B^3} \sum_{i,j,k} l(\theta^S_{jik} - \theta^T_{jik}), \quad
        \psi_{ij} = \frac{\lVert f_i - f_j \rVert}{\mu}, \quad
        \theta_{jik} = \left\langle \frac{f_j - f_i}{\lVert f_j - f_i \rVert},
        \frac{f_k - f_i}{\lVert f_k - f_i \rVert} \right\rangle

    with the mean :math:`\mu` of the distances of different images, and 0 for the direction of an
    image to itself. Both are invariant to translation, rotation and scale of the features. With two
    images distances and angles are constant, so it needs three. Memory grows by B³: with 64 images
    1 MB, with 512 vectors of RoIs 0.5 GB for each of a few tensors.

    It returns the parts 'distance' and 'angle'.

    Args:
        distance (float): :math:`\lambda_D`, weight of the distances, 0 or more. Defaults to 25.
        angle (float): :math:`\lambda_A`, weight of the angles, 0 or more. Defaults to 50.
        grid (int, optional): Maps (N, C, H, W) are averaged to grid x grid values per channel
            before they are flattened to rows; None: not averaged. Defaults to 1.
        sync (bool): Whether the images of all processes are compared with each other. Value and
            gradient are then those of one process with the whole batch. Defaults to True.
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Raises:
        TypeError: If ``grid`` is not a whole number, or ``sync`` not a bool.
        ValueError: If an argument is out of range; when called, if rows of the processes differ in
            length, which happens with ``grid=None`` and maps of several sizes.

    Example:
        >>> triangle = torch.tensor([[0., 0.], [3., 0.], [0., 4.]])
        >>> turned = torch.tensor([[1., 1.], [1., 7.], [9., 1.]])
        >>> {name: round(part.item(), 4) for name, part in RKDLoss()(triangle, turned).items()}
        {'distance': 0.0, 'angle': 0.0}
    """

    least = 3

    def __init__(self, distance: float = 25., angle: float = 50., grid: Optional[int] = 1,
                 sync: bool = True, loss_weight: float = 1.0) -> None:
        super().__init__(grid, sync, loss_weight)
        self.distance = finite_number('distance', distance, least=0)
        self.angle = finite_number('angle', angle, least=0)

    def relate(self, student: Tensor, teacher: Tensor) -> Dict[str, Tensor]:
        own, other = (_geometry(rows) for rows in (student, teacher))
        parts = self.nothing(student.sum() * 0)
        if self.distance:
            parts['distance'] = self.distance * smooth_l1_loss(_distances(own), _distances(other))
        if self.angle:
            parts['angle'] = self.angle * smooth_l1_loss(_angles(own), _angles(other))
        return parts

    def nothing(self, zero: Tensor) -> Dict[str, Tensor]:
        return dict(distance=zero, angle=zero)


class _Geometry(NamedTuple):
    """Of B images, each (B, B)."""
    products: Tensor
    """Inner products, relative to the mean image."""
    squares: Tensor
    """Squared distances."""
    same: Tensor
    """Whether it is one image twice."""


def _geometry(rows: Tensor) -> _Geometry:
    rows = rows - rows.mean(0)  # distances do not change, and products lose less to rounding
    products = rows @ rows.T
    own = products.diagonal()
    return _Geometry(products, own[:, None] + own - 2 * products,
                     torch.eye(len(rows), dtype=torch.bool, device=rows.device))


def _distances(of: _Geometry) -> Tensor:
    """Divided by their mean."""
    found = of.squares.clamp(min=EPS).sqrt().masked_fill(of.same, 0)
    return found / (found.sum() / (len(found) * (len(found) - 1)))


def _angles(of: _Geometry) -> Tensor:
    """Cosines (B, B, B), by image i at the vertex, j and k."""
    own = of.products.diagonal()
    noise = ROUNDING * torch.finfo(own.dtype).eps * (own[:, None] + own)
    is_apart = (of.squares > noise) & ~of.same
    inverse = torch.where(is_apart, of.squares, 1.).rsqrt() * is_apart
    inner = of.products - of.products[:, :, None] - of.products[:, None] + own[:, None, None]
    return inner * inverse[:, :, None] * inverse[:, None]


METHOD = Method('rkd', [dict(type='mmkd.RKDLoss', on='backbone', levels=[-1])])
