"""FBKD: attended features, their means, and their non-local relations (Zhang and Ma, 2021).

:Paper: `Improve Object Detection with Feature-based Knowledge Distillation
    <https://openreview.net/forum?id=uKhGRvM8QNH>`_, ICLR 2021, sections 3.1 and 3.2.
:Compares: The neck; RoI heads the first four levels (P2 to P5), dense heads all five.
:Defaults: RoI heads: OpenMMLab's port: weights 7e-5 (features, relations) and 4e-3 (means),
    temperature 0.5, and non-local blocks by level: channels / 4 and pools of 8 and 4 on the first
    two levels, channels / 2 and pools of 2 on the others. Dense heads: the weights times 6, and an
    attention of channels in the first term, as in copies of the authors' code in other
    repositories; the paper has 4e-4 and 2e-2 (from memory).
:Differs: The authors' repository does not hold the code any more, so the port is the reference. The
    port pools twice, by 2 and by the window of its config, so its windows are 16, 8, 4, 4; copies
    of the authors' code pool once, and so does mmkd: ``pools=(16, 8, 4, 4)`` is the port. These
    copies compare five levels of Faster R-CNN, the port four. The product of three matrices in a
    non-local block begins at the end: it has the same result, and no matrix of all pairs of
    positions. Where a map is smaller than the window, the window is the map; the port fails there.
:Published: Faster R-CNN R50, R101 (39.4), 1x: 37.4 -> 39.3 (OpenMMLab's README)
"""
from typing import Dict, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm
from torch.nn.functional import max_pool2d

from ..core.arguments import finite_number, temperature, whole_number
from ..core.table import LOSSES
from .base import DistillLoss
from .fgd import attentions
from .method import Method
from .reviewkd import Norm


class NonLocal(nn.Module):
    """Non-local block of type dot product, with pooled keys and values.

    Args:
        channels (int): C of the features.
        reduction (int): By which C is divided inside.
        pool (int): Height and width of the windows of which keys and values keep the largest value.
    """

    def __init__(self, channels: int, reduction: int, pool: int) -> None:
        super().__init__()
        inner = max(channels // reduction, 1)
        self.pool = pool
        self.query, self.key, self.value = (nn.Conv2d(channels, inner, 1) for _ in range(3))
        self.out, self.norm = nn.Conv2d(inner, channels, 1, bias=False), Norm(channels)
        for layer in (self.query, self.key, self.value):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.kaiming_normal_(self.out.weight, mode='fan_out', nonlinearity='relu')
        nn.init.zeros_(self.norm.weight)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape; the identity at first."""
        size = tuple(min(self.pool, one) for one in features.shape[2:])
        keys, values = (max_pool2d(layer(features), size).flatten(2)
                        for layer in (self.key, self.value))
        # (query' key) value' is query' (key value'), which has no matrix of pairs of positions.
        mixed = values @ keys.transpose(1, 2) / keys.shape[2]
        found = (mixed @ self.query(features).flatten(2)).unflatten(2, features.shape[2:])
        added: Tensor = self.norm(self.out(found))
        return features + added


@LOSSES.register
class FBKDLoss(DistillLoss):
    r"""Attention-guided and non-local distillation of features.

    `Improve Object Detection with Feature-based Knowledge Distillation
    <https://openreview.net/forum?id=uKhGRvM8QNH>`_ (ICLR 2021). For each level, with the spatial
    attention :math:`A(F) = HW \, softmax_{h,w}(mean_c |F| / \tau)`, a constant, 1x1 convolutions
    :math:`\phi`, a linear layer :math:`\psi`, a 3x3 convolution :math:`\omega` of one map, and
    non-local blocks :math:`R_S`, :math:`R_T`:

    .. math::
        L = \alpha \Big\| \sqrt{\tfrac{1}{2} (A(F^S) + A(F^T))} \odot (\phi_1(F^S) - F^T) \Big\|_2
        + \beta \big\| \psi(mean_{h,w} F^S) - mean_{h,w} F^T \big\|_2
        + \beta \big\| \omega(mean_c F^S) - mean_c F^T \big\|_2
        + \gamma \big\| \phi_2(R_S(F^S)) - R_T(F^T) \big\|_2

    With ``attends_channels``, the first norm is weighed by the root of the mean of both attentions
    of channels, too, :math:`C \, softmax_c(mean_{h,w} |F| / \tau)`.

    A norm is that of the tensor of the whole batch, not squared, so a term grows with the root of
    the number of images, and its gradient does not fall with the difference; at a difference of 0
    it is 0. All layers are trained, those of :math:`R_T`, too, which are random at first. The norm
    at the end of a block starts with a scale of 0, so :math:`R(F) = F`.

    It returns the parts 'feature', 'channel', 'spatial' and 'relation'.

    Args:
        feature (float): :math:`\alpha`, weight of the features. Defaults to 7e-5.
        channel (float): :math:`\beta`, weight of the means of channels. Defaults to 4e-3.
        spatial (float): :math:`\beta`, weight of the means of positions. Defaults to 4e-3.
        relation (float): :math:`\gamma`, weight of the relations. Defaults to 7e-5.
        tau (float): :math:`\tau`, temperature of the attention, greater than 0. Defaults to 0.5.
        attends_channels (bool): Whether the first term is weighed by channel, too. Defaults to
            False.
        reductions (Sequence[int]): By the number of the level, by what the channels are divided
            inside of the non-local blocks; the last one also for further levels. Defaults to
            (4, 4, 2, 2).
        pools (Sequence[int]): By the number of the level, height and width of the windows in which
            the largest key and value are taken; the last one also for further levels. Defaults to
            (8, 4, 2, 2).
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Raises:
        TypeError: If a number is of the wrong type.
        ValueError: If a number is out of range, or there are no ``reductions`` or ``pools``; when
            called, if the features are not maps (N, C, H, W).

    Example:
        >>> loss = FBKDLoss()
        >>> loss.setup(8, 8, level=0)
        >>> parts = loss(torch.zeros(1, 8, 16, 16), torch.zeros(1, 8, 16, 16))
        >>> list(parts), parts['relation'].isfinite().item()
        (['feature', 'channel', 'spatial', 'relation'], True)
    """

    def __init__(self, feature: float = 7e-5, channel: float = 4e-3, spatial: float = 4e-3,
                 relation: float = 7e-5, tau: float = 0.5, attends_channels: bool = False,
                 reductions: Sequence[int] = (4, 4, 2, 2), pools: Sequence[int] = (8, 4, 2, 2),
                 loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.weights = {name: finite_number(name, value, least=0) for name, value in dict(
            feature=feature, channel=channel, spatial=spatial, relation=relation).items()}
        self.tau, self.attends_channels = temperature(tau), bool(attends_channels)
        self.reductions, self.pools = _numbers('reductions', reductions), _numbers('pools', pools)

    def setup(self, student_channels: int, teacher_channels: int, *,
              level: Optional[int] = None) -> None:
        reduction, pool = (one[min(level or 0, len(one) - 1)]
                           for one in (self.reductions, self.pools))
        self.adapt_features = nn.Conv2d(student_channels, teacher_channels, 1)
        self.adapt_channels = nn.Linear(student_channels, teacher_channels)
        self.adapt_positions = nn.Conv2d(1, 1, 3, padding=1)
        self.adapt_relations = nn.Conv2d(student_channels, teacher_channels, 1)
        self.relations = nn.ModuleList(NonLocal(channels, reduction, pool)
                                       for channels in (student_channels, teacher_channels))

    def compare(self, student: Tensor, teacher: Tensor) -> Dict[str, Tensor]:
        if student.dim() != 4:
            raise ValueError(f'FBKDLoss compares maps (N, C, H, W), but got '
                             f"{tuple(student.shape)}; compare 'neck' or 'backbone'")
        if not student.numel():
            zero = student.sum() * 0
            return dict(feature=zero, channel=zero, spatial=zero, relation=zero)
        feature = self.adapt_features(student) - teacher
        with torch.no_grad():
            ours, theirs = (attentions(one, self.tau) for one in (student, teacher))
            at_position, at_channel = (((a + b) / 2).sqrt() for a, b in zip(ours, theirs))
        feature = feature * at_position.unsqueeze(1)
        if self.attends_channels:
            feature = feature * at_channel[..., None, None]
        parts = dict(
            feature=feature,
            channel=self.adapt_channels(student.mean((2, 3))) - teacher.mean((2, 3)),
            spatial=self.adapt_positions(student.mean(1, keepdim=True)) - teacher.mean(1, True),
            relation=self.adapt_relations(self.relations[0](student)) - self.relations[1](teacher))
        # The gradient of torch's norm is 0 at 0, that of a root of a sum is not finite.
        return {name: self.weights[name] * vector_norm(part) for name, part in parts.items()}


def _numbers(name: str, values: Sequence[int]) -> Tuple[int, ...]:
    found = tuple(whole_number(name, one, least=1) for one in values)
    if not found:
        raise ValueError(f'`{name}` must have a number for the first level, but got none; write '
                         'for instance (4, 2)')
    return found


METHOD = Method(
    'fbkd',
    dense=[dict(type='mmkd.FBKDLoss', on='neck', feature=4.2e-4, channel=2.4e-2, spatial=2.4e-2,
                relation=4.2e-4, attends_channels=True)],
    roi=[dict(type='mmkd.FBKDLoss', on='neck', levels=[0, 1, 2, 3])])
