"""The part of DETRDistill that compares features; its card is that of :mod:`.detrdistill`."""
from typing import List, Optional, Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..core.arguments import whole_number
from ..core.table import LOSSES
from .base import DistillLoss
from .boxes import generalized_iou
from .sets import TINY, chosen, corners


@LOSSES.register
class DETRDistillFeatureLoss(DistillLoss):
    r"""Features of the neck, where the teacher's queries find objects.

    `DETRDistill <https://arxiv.org/abs/2211.10156>`_, section 3.2, with the authors' code. Of each
    decoder layer l of the teacher the K predictions with the highest class probabilities
    :math:`p_k` count, by their quality :math:`q_k = p_k \max_b IoU(B_k, b)` over the boxes b of
    the ground truth, or :math:`p_k` in an image without any. With the output :math:`h_k` of the
    decoder for the query, the mask of position i, divided by its maximum over the image, is

    .. math:: M_{l,i} = \max\Big(0.01, \sum_k q_k \cos(h_k, F^T_i)\Big)

    .. math:: L = \sum_l \frac{1}{NCHW} \sum_{n,c,i} \big( M_{l,i} (F^T_{c,i} - F^S_{c,i}) \big)^2

    The decoder must be as wide as the teacher's maps.

    Args:
        topk (int): K. Defaults to 100.
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Raises:
        ValueError: If ``topk`` is less than 1; when called, if the widths differ.

    Example:
        >>> student, teacher = torch.randn(2, 1, 8, 4, 4)
        >>> layers = [[torch.randn(1, rows, 5)] for rows in (8, 3, 4)]
        >>> loss = DETRDistillFeatureLoss()(
        ...     teacher, teacher, teacher_also=layers, boxes=[torch.zeros(0, 4)],
        ...     image_sizes=torch.tensor([[32, 32]]))
        >>> loss.item()
        0.0
    """

    also = ('hidden.all', 'cls.all', 'reg.all')
    pairs_queries = False

    def __init__(self, topk: int = 100, loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.topk = whole_number('topk', topk, least=1)

    def compare(self, student: Tensor, teacher: Tensor, *, teacher_also: List[List[Tensor]],
                boxes: List[Tensor], image_sizes: Tensor,
                also_sigmoid: Optional[Sequence[Optional[bool]]] = None) -> Tensor:
        use_sigmoid = also_sigmoid is None or bool(also_sigmoid[1])
        squares = student.new_zeros(len(student), *student.shape[2:])
        truth = [one.to(student.dtype) / size.flip(0).repeat(2).to(student.dtype)
                 for one, size in zip(boxes, image_sizes)]
        unit = normalize(teacher, dim=1)
        for hidden, logits, where in zip(*teacher_also):
            if hidden.shape[1] != teacher.shape[1]:
                raise ValueError(
                    f'the map of the teacher must have the {hidden.shape[1]} channels of its '
                    f'decoder, but has {teacher.shape[1]}; compare maps with this number of '
                    "channels, such as 'neck'")
            hidden, logits, where = (one.to(student.dtype) for one in (hidden, logits, where))
            direction = self.direction(hidden, logits, where, truth, use_sigmoid)
            mask = torch.einsum('nc,nchw->nhw', direction, unit).clamp(min=0.01)
            squares = squares + (mask / mask.amax((1, 2), keepdim=True)).square()
        return (squares.unsqueeze(1) * (teacher - student).square()).sum() / max(
            student.numel(), 1)

    def direction(self, hidden: Tensor, logits: Tensor, where: Tensor, truth: List[Tensor],
                  use_sigmoid: bool) -> Tensor:
        """Sum of the queries' unit vectors, weighted by quality, (N, C): a product with it is the
        sum of their products."""
        scores = logits.sigmoid() if use_sigmoid else logits.softmax(1)[:, :-1]
        flat = scores.transpose(1, 2).flatten(1)
        best, index = flat.topk(min(self.topk, flat.shape[1]), dim=1)
        index = index // scores.shape[1]
        predicted = chosen(corners(where.transpose(1, 2)), index)
        overlap = torch.stack([
            generalized_iou(b.unsqueeze(1), t, TINY)[0].amax(1) if len(t) else
            torch.ones_like(score)
            for b, t, score in zip(predicted, truth, best)]) if len(truth) else best
        queries = normalize(chosen(hidden.transpose(1, 2), index), dim=2)
        return torch.einsum('nk,nkc->nc', best * overlap, queries)
