"""CKA: linear centred kernel alignment of the images of a batch (Kornblith et al., 2019).

:Paper: `Similarity of Neural Network Representations Revisited
    <https://arxiv.org/abs/1905.00414>`_, ICML 2019, section 3, equations 3 and 4 (their numbers are
    from memory). The paper measures similarity with it, and does not train.
:Compares: the deepest level of the backbone, averaged over its positions. Channels and sizes of
    both sides may differ.
:Defaults: weight 1, our choice: no recipe for its use as a loss is published by the authors.
:Differs: nothing known in the formula. By default the images of all processes are related
    (``sync``). It is the usual, biased estimate; with few images and many channels it is near 1
    for any two networks, so it needs large batches.
:Published: nothing by the authors as a loss.
"""
from typing import Optional

from torch import Tensor
from torch.nn.functional import normalize

from ..core.table import LOSSES
from .images import ImageRelationLoss
from .method import Method


@LOSSES.register
class CKALoss(ImageRelationLoss):
    r"""One minus the linear centred kernel alignment.

    `Similarity of Neural Network Representations Revisited <https://arxiv.org/abs/1905.00414>`_,
    section 3. With one row of features per image, minus the mean of all rows, X (B, D) of the
    student and Y (B, E) of the teacher:

    .. math::
        L = 1 - \frac{\lVert Y^\top X \rVert_F^2}{\lVert X^\top X \rVert_F
        \lVert Y^\top Y \rVert_F}

    It is between 0 and 1, and invariant to translation, rotation and scale of the features. It is
    computed from the inner products of the images, (B, B). With two images it is constant, so it
    needs three. Where all images of a side are equal, it is 1.

    Args:
        grid (int, optional): Maps (N, C, H, W) are averaged to grid x grid values per channel
            before they are flattened to rows; None: not averaged. Defaults to 1.
        sync (bool): Whether the images of all processes are compared with each other. Value and
            gradient are then those of one process with the whole batch. Defaults to True.
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Raises:
        TypeError: If ``grid`` is not a whole number, or ``sync`` not a bool.
        ValueError: If ``grid`` is less than 1; when called, if rows of the processes differ in
            length, which happens with ``grid=None`` and maps of several sizes.

    Example:
        >>> import torch
        >>> student = torch.tensor([[0., 0.], [1., 0.], [0., 1.]])
        >>> abs(CKALoss()(student, 3 * student.flip(1) + 1).item()) < 1e-6
        True
    """

    least = 3

    def __init__(self, grid: Optional[int] = 1, sync: bool = True,
                 loss_weight: float = 1.0) -> None:
        super().__init__(grid, sync, loss_weight)

    def relate(self, student: Tensor, teacher: Tensor) -> Tensor:
        own, other = (_centred_kernel(rows) for rows in (student, teacher))
        return 1 - own @ other


def _centred_kernel(rows: Tensor) -> Tensor:
    """Inner products of the images, relative to the mean image, as a vector (B²) of length 1."""
    rows = rows - rows.mean(0)
    return normalize((rows @ rows.T).flatten(), dim=0)


METHOD = Method('cka', [dict(type='mmkd.CKALoss', on='backbone', levels=[-1])])
