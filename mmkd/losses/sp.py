"""SP: similarities between the images of a batch (Tung and Mori, 2019).

:Paper: `Similarity-Preserving Knowledge Distillation <https://arxiv.org/abs/1907.09682>`_, ICCV
    2019, section 3.1, equations 1 to 4.
:Compares: the deepest level of the backbone. Channels and sizes of both sides may differ.
:Defaults: weight 3000, with which RepDistiller repeats the paper on CIFAR-100. It is for batches of
    64 images; no value for detectors or segmentors is published.
:Differs: maps are averaged to 8x8 before they are flattened (``grid``), so that images of any size
    can be compared, and little is exchanged between processes. The authors flatten maps as they
    are, of 8x8 positions on CIFAR. By default the images of all processes are related (``sync``);
    the authors' code has one process.
:Published: CIFAR-100 classifiers, ResNet-8x4, ResNet-32x4 (79.42), 240 epochs: 72.50 -> 72.94
    (RepDistiller). Nothing for detectors and segmentors.
"""
from typing import Optional

from torch import Tensor
from torch.nn.functional import normalize

from ..core.table import LOSSES
from .images import ImageRelationLoss
from .method import Method


@LOSSES.register
class SPLoss(ImageRelationLoss):
    r"""Squared difference of the similarities of all pairs of images.

    `Similarity-Preserving Knowledge Distillation <https://arxiv.org/abs/1907.09682>`_, section 3.1.
    With one row of features per image, F (B, D):

    .. math::
        L = \frac{1}{B^2} \sum_{i,j} (\hat G^S_{ij} - \hat G^T_{ij})^2, \quad
        \hat G_{ij} = \frac{G_{ij}}{\sqrt{\sum_k G_{ik}^2}}, \quad G = F F^\top

    A common factor or a rotation of the features of all images has no influence.

    Args:
        grid (int, optional): Maps (N, C, H, W) are averaged to grid x grid values per channel
            before they are flattened to rows; None: not averaged. Defaults to 8.
        sync (bool): Whether the images of all processes are compared with each other. Value and
            gradient are then those of one process with the whole batch. Defaults to True.
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Raises:
        TypeError: If ``grid`` is not a whole number, or ``sync`` not a bool.
        ValueError: If ``grid`` is less than 1; when called, if rows of the processes differ in
            length, which happens with ``grid=None`` and maps of several sizes.

    Example:
        >>> import torch
        >>> student = torch.tensor([[1., 0.], [0., 1.]])
        >>> SPLoss()(student, torch.tensor([[3., 0., 0.], [0., 3., 0.]])).item()
        0.0
        >>> round(SPLoss()(student, torch.tensor([[3., 0.], [3., 0.]])).item(), 4)
        0.2929
    """

    def __init__(self, grid: Optional[int] = 8, sync: bool = True,
                 loss_weight: float = 1.0) -> None:
        super().__init__(grid, sync, loss_weight)

    def relate(self, student: Tensor, teacher: Tensor) -> Tensor:
        own, other = (normalize(rows @ rows.T) for rows in (student, teacher))
        return (own - other).square().mean()


METHOD = Method('sp', [
    dict(type='mmkd.SPLoss', on='backbone', levels=[-1], loss_weight=3000.)])
