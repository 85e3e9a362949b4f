"""BPKD: pixels at the edges of classes, and the shape of the regions between (Liu et al., 2024).

:Paper: `BPKD: Boundary Privileged Knowledge Distillation For Semantic Segmentation
    <https://arxiv.org/abs/2306.08075>`_, WACV 2024, edge loss and body loss.
:Compares: class logits of the decode head, with the map of labels.
:Defaults: edges of 7 pixels, weights 50 (edge) and 20 (body), and factor 2 of each class, as two
    re-implementations by others quote the paper, which could not be read. The authors published
    only the evaluation code. Temperature 1 is our choice.
:Differs: not known, because the authors' code is not public. Our reading: the loss of a class is
    the mean over its edge, weighted by the share of each position that belongs to the edge. Classes
    of an image are added, images are averaged. Ignored pixels are not a class, so a boundary with
    only them is not an edge.
:Published: PSPNet-R18, PSPNet-R101 (79.74), Cityscapes 80k: 74.23 -> 77.57 (authors);
    HRNetV2-W18S, HRNetV2-W48 (80.65), Cityscapes 80k: 75.31 -> 78.58 (authors); DeepLabV3+-MBv2,
    DeepLabV3+-R101 (80.98), Cityscapes 80k: 75.29 -> 78.59 (authors).
"""
from typing import Dict, Tuple

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, log_softmax, pad

from ..core.arguments import finite_number, temperature, whole_number
from ..core.table import LOSSES
from .base import DistillLoss
from .cwd import CWDLoss
from .fast.eager import eager
from .method import Method

BITS = 31
"""Classes in one number of 32 bits."""


@LOSSES.register
class BPKDLoss(DistillLoss):
    r"""Class probabilities of pixels at edges, and channel-wise distillation of the rest.

    `BPKD: Boundary Privileged Knowledge Distillation For Semantic Segmentation
    <https://arxiv.org/abs/2306.08075>`_. A pixel is on the edge of class c if c and another class
    occur in the window around it: dilation minus erosion of the mask of c. :math:`M_{n,c,i}` is the
    share of such pixels at position i of the logits z. With :math:`z^E = M z` and
    :math:`z^B = (1 - M) z`:

    .. math:: L_{edge} = \frac{\tau^2}{N} \sum_{n,c} \frac{\alpha}{\sum_i M_{n,c,i}} \sum_i
        M_{n,c,i} \sum_k p^T_{n,k,i} \log\frac{p^T_{n,k,i}}{p^S_{n,k,i}},
        \quad p_{n,\cdot,i} = softmax_k(z^E_{n,k,i} / \tau)

    .. math:: L_{body} = \frac{\tau^2}{N C} \sum_{n,c,i} q^T_{n,c,i}
        \log\frac{q^T_{n,c,i}}{q^S_{n,c,i}}, \quad q_{n,c,\cdot} = softmax_i(z^B_{n,c,i} / \tau)

    It returns the parts 'edge' and 'body', each with its weight. Without edges 'edge' is 0.

    Args:
        width (int): Side of the window in pixels of the labels, odd, 3 or more. Defaults to 7.
        edge_weight (float): Weight of :math:`L_{edge}`, 0 or more. Defaults to 50.
        body_weight (float): Weight of :math:`L_{body}`, 0 or more. Defaults to 20.
        alpha (float): α, factor of each class, 0 or more. Defaults to 2.
        tau (float): Temperature, greater than 0. Defaults to 1.0.
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Raises:
        TypeError: If ``width`` is not a whole number.
        ValueError: If an argument is out of range; when called, if the logits are not
            (N, C, H, W), or if the labels are not (N, height, width).

    Example:
        >>> loss, logits = BPKDLoss(width=3), torch.randn(2, 1, 5, 4, 4)
        >>> parts = loss(*logits, label_map=torch.zeros(1, 32, 32).long())  # one class: no edge
        >>> sorted(parts), parts['edge'].item()
        (['body', 'edge'], 0.0)
    """

    def __init__(self, width: int = 7, edge_weight: float = 50., body_weight: float = 20.,
                 alpha: float = 2., tau: float = 1.0, loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        if whole_number('width', width, least=3) % 2 == 0:
            raise ValueError(f'`width` must be odd, but got {width}; write {width + 1}, for '
                             'instance')
        self.width = width
        self.edge_weight = finite_number('edge_weight', edge_weight, least=0)
        self.body_weight = finite_number('body_weight', body_weight, least=0)
        self.alpha, self.tau = finite_number('alpha', alpha, least=0), temperature(tau)
        self._channels = CWDLoss(tau)

    def compare(self, student: Tensor, teacher: Tensor, *, label_map: Tensor) -> Dict[str, Tensor]:
        if student.dim() != 4 or label_map.dim() != 3 or len(label_map) != len(student):
            raise ValueError('BPKDLoss compares maps (N, C, H, W) by labels (N, height, width), '
                             f'but got {tuple(student.shape)} and {tuple(label_map.shape)}; '
                             "compare 'cls' of a segmentor")
        if student.numel() == 0:
            nothing = student.sum() * 0
            return dict(edge=nothing, body=nothing)
        size = (student.shape[2], student.shape[3])
        mask = eager(edges)(label_map, student.shape[1], self.width, size).to(student.dtype)
        shares = mask / mask.sum((2, 3), keepdim=True).clamp(min=1e-6)
        log_p, log_q = (log_softmax(one * mask / self.tau, 1) for one in (student, teacher))
        divergence = (log_q.exp() * (log_q - log_p)).sum(1)
        edge = self.tau**2 * self.alpha * (divergence * shares.sum(1)).sum() / len(student)
        body = self._channels.compare(student * (1 - mask), teacher * (1 - mask), None)
        return dict(edge=self.edge_weight * edge, body=self.body_weight * body)


@torch.no_grad()
def edges(label_map: Tensor, classes: int, width: int, size: Tuple[int, int]) -> Tensor:
    """Which share of each position is on the edge of each class.

    Args:
        label_map (Tensor): Whole numbers (N, height, width), less than 0 for ignored, others less
            than C.
        classes (int): C.
        width (int): Side of the window in pixels, odd.
        size (tuple[int, int]): H and W of the result.

    Returns:
        Tensor: Float32 (N, C, H, W), 0 to 1.
    """
    # The classes in the window of a pixel are the bits of a number, dilation is "or".
    chunks = []
    for first in range(0, classes, BITS):
        number = label_map.unsqueeze(1) - first
        is_here = (number >= 0) & (number < min(BITS, classes - first))
        bits = torch.ones_like(number, dtype=torch.int32) << number.clamp(0, BITS - 1).int()
        chunks.append(_dilated(bits * is_here, width))
    several = torch.stack([bits != 0 for bits in chunks]).sum(0) > 1
    for bits in chunks:
        several = several | ((bits & (bits - 1)) != 0)
    is_edge = several & (label_map >= 0).unsqueeze(1)
    # Class by class: one mask at the size of the labels at a time.
    return torch.cat([adaptive_avg_pool2d(((chunks[c // BITS] >> c % BITS) & is_edge).float(), size)
                      for c in range(classes)], 1)


def _dilated(bits: Tensor, width: int) -> Tensor:
    """All bits in a square window around each position of (N, 1, H, W)."""
    for dim in (2, 3):
        sides = [0, 0, width // 2, width // 2] if dim == 2 else [width // 2, width // 2]
        bits, covered = pad(bits, sides), 1
        while covered < width:
            step = min(covered, width - covered)
            length = bits.shape[dim] - step
            bits = bits.narrow(dim, 0, length) | bits.narrow(dim, step, length)
            covered += step
    return bits


METHOD = Method('bpkd', segmentor=[dict(type='mmkd.BPKDLoss', on='cls')])
