"""A classifier whose decisions can be drawn: a soft decision tree. Requires only torch."""
import math
from typing import NamedTuple, Optional, Tuple

import torch
from torch import Tensor, distributed, nn

from ..core.arguments import finite_number, whole_number
from ..core.processes import world_size

GAIN = 10.
"""Factor of the scores of the leaves. A leaf learns only from its share of a batch; without the
factor it needs a learning rate of its own, 10 (AdamW) to 100 (SGD) times that of the model."""
PREFERENCE = 2.
"""Logit of the class that a leaf prefers at the beginning."""
FEWEST = 1e-30
"""Least probability of a class, relative to that in its best leaf; its logarithm is finite."""
EDGE = 1e-6
"""Least distance of an average decision from 0 and 1."""


class Routes(NamedTuple):
    """How likely each row takes which way."""
    nodes: Tensor
    """(M, inner nodes): probability of coming to the node; the root first, level by level."""
    right: Tensor
    """(M, inner nodes): probability of going right there."""
    leaves: Tensor
    """(M, leaves): probability of ending in the leaf, from left to right; 1 in sum."""


class SoftTree(nn.Module):
    r"""A soft decision tree in the place of a linear classifier.

    `Distilling a Neural Network Into a Soft Decision Tree <https://arxiv.org/abs/1711.09784>`_
    (Frosst and Hinton, 2017). An inner node i sends x to the right with probability
    :math:`p_i = \sigma(\beta_i (w_i^\top x + b_i))`, with a learned filter and inverse temperature.
    A leaf l has a learned distribution :math:`Q_l = softmax(10 \phi_l)`, whatever x is. With the
    probability :math:`P_l` of the way to a leaf, the tree returns log-probabilities, which stand
    for logits: a softmax returns the probabilities.

    .. math:: \log \sum_l P_l(x) Q_{l,k}

    At the beginning a leaf prefers one class, the leaves in turn.

    The cross entropy with labels, or with a teacher's probabilities T, is then
    :math:`-\sum_k T_k \log \sum_l P_l Q_{l,k}`. The paper describes its loss as the cross entropy
    of each leaf, weighted by :math:`P_l`, which is an upper bound of this one.

    :meth:`penalty` keeps each node from sending all to one side (section 3.1 of the paper). With
    the average :math:`\alpha_i = \sum_x P_i p_i / \sum_x P_i` at a node of depth d, 0 for the root:

    .. math:: -\lambda \sum_i 2^{-d_i} \tfrac12 [\log \alpha_i + \log (1 - \alpha_i)]

    Deep nodes see few examples of a batch, so the sums are running averages over :math:`2^d`
    iterations. The gradient is that of the batch's share.

    Args:
        in_channels (int): Channels of the features.
        num_classes (int): Classes, with the background where the head has one.
        depth (int): Decisions on a way: 2^depth leaves. Defaults to 4.
        penalty (float): λ, 0 or more. Defaults to 0.1, that of the paper.
        beta (float): β at the beginning, greater than 0. Defaults to 3.0, our choice: soft
            decisions at the beginning take long to become sharp.
        in_features (int, optional): ``in_channels`` by the name that mmdet's
            ``cls_predictor_cfg`` gives. Defaults to None.
        out_features (int, optional): Likewise ``num_classes``. Defaults to None.

    Raises:
        TypeError: If a size is missing or no whole number.
        ValueError: If an argument is out of range.

    Example:
        >>> tree = SoftTree(in_channels=8, num_classes=3, depth=2)
        >>> logits = tree(torch.randn(5, 8))
        >>> logits.shape, torch.allclose(logits.exp().sum(1), torch.ones(5))
        (torch.Size([5, 3]), True)
        >>> tree(torch.randn(2, 8, 4, 4)).shape  # a map: each position by itself
        torch.Size([2, 3, 4, 4])
    """

    def __init__(self, in_channels: Optional[int] = None, num_classes: Optional[int] = None,
                 depth: int = 4, penalty: float = 0.1, beta: float = 3.0, *,
                 in_features: Optional[int] = None, out_features: Optional[int] = None) -> None:
        super().__init__()
        sizes = (('in_channels', in_channels, in_features),
                 ('num_classes', num_classes, out_features))
        self.in_channels, self.num_classes = (
            whole_number(name, other if one is None else one, least=1)  # type: ignore[arg-type]
            for name, one, other in sizes)
        self.depth = whole_number('depth', depth, least=1)
        self.strength = finite_number('penalty', penalty, least=0)
        if finite_number('beta', beta) <= 0:
            raise ValueError(f'`beta` must be greater than 0, but got {beta}; write a number such '
                             'as 3.0')
        self.beta = float(beta)
        inner = 2**depth - 1
        # No parameter is called `weight` or `bias`: heads initialize those as a linear layer's.
        self.filters = nn.Parameter(torch.empty(inner, self.in_channels))
        self.offsets = nn.Parameter(torch.empty(inner))
        self.log_beta = nn.Parameter(torch.empty(inner))
        self.scores = nn.Parameter(torch.empty(2**depth, self.num_classes))
        self.register_buffer('arrivals', torch.zeros(inner))
        self.register_buffer('rights', torch.zeros(inner))
        self.arrivals: Tensor
        self.rights: Tensor
        levels = torch.arange(1, inner + 1).float().log2().floor()  # of each node
        self.register_buffer('share', 2**-levels, persistent=False)
        self.share: Tensor
        self._seen: Optional[Tuple[Tensor, Tensor, int]] = None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Filters as those of a linear layer; leaf l prefers class l modulo the classes.

        Leaves that are alike at the beginning give filters and features no gradient for long.
        """
        bound = self.in_channels**-0.5
        nn.init.uniform_(self.filters, -bound, bound)
        nn.init.zeros_(self.offsets)
        nn.init.constant_(self.log_beta, math.log(self.beta))
        nn.init.normal_(self.scores, std=0.1 / GAIN)
        with torch.no_grad():
            numbers = torch.arange(len(self.scores))
            self.scores[numbers, numbers % self.num_classes] += PREFERENCE / GAIN
        nn.init.zeros_(self.arrivals)
        nn.init.zeros_(self.rights)

    @property
    def distributions(self) -> Tensor:
        """Class probabilities of each leaf, (leaves, classes)."""
        return (GAIN * self.scores).softmax(1)

    def forward(self, features: Tensor) -> Tensor:
        """Log-probabilities.

        Args:
            features (Tensor): Float (N, in_channels, *positions).

        Returns:
            Tensor: Float32, or float64 for float64 features, (N, num_classes, *positions).
        """
        with torch.autocast(features.device.type, enabled=False):
            routes = self.routes(features)
            if self.training and torch.is_grad_enabled():
                self._seen = (routes.nodes.sum(0), (routes.nodes * routes.right).sum(0),
                              len(routes.nodes))
            log_q = (GAIN * self.scores.to(routes.leaves.dtype)).log_softmax(1)
            best = log_q.detach().amax(0)
            mixed = routes.leaves @ (log_q - best).exp()
            logits = best + mixed.clamp(min=FEWEST).log()
        shape = (features.shape[0], *features.shape[2:], self.num_classes)
        return logits.reshape(shape).movedim(-1, 1)

    def routes(self, features: Tensor) -> Routes:
        """Probabilities of the ways of each row, or of each position of each map.

        Args:
            features (Tensor): Float (N, in_channels, *positions).

        Returns:
            Routes: M = N·positions rows.
        """
        dtype = torch.promote_types(features.dtype, torch.float32)
        filters, offsets, log_beta = (one.to(dtype) for one in (
            self.filters, self.offsets, self.log_beta))
        activations = torch.einsum('nc...,ic->n...i', features.to(dtype), filters).flatten(0, -2)
        right = torch.sigmoid(log_beta.exp() * (activations + offsets))
        nodes = [right.new_ones(len(right), 1)]
        for level in range(self.depth):
            p = right[:, 2**level - 1:2**(level + 1) - 1]
            nodes.append(torch.stack([nodes[-1] * (1 - p), nodes[-1] * p], 2).flatten(1))
        return Routes(torch.cat(nodes[:-1], 1), right, nodes[-1])

    def penalty(self) -> Tensor:
        """The regulariser, of the last call in training.

        Each call is used once. With several processes all of them call it.

        Returns:
            Tensor: A scalar; 0 without a call.
        """
        if self._seen is None:
            return self.scores.sum() * 0
        (arrived, right, rows), self._seen = self._seen, None
        with torch.no_grad():
            sums = torch.stack([arrived, right])
            count = sums.new_full((1, ), float(rows))
            if world_size() > 1:
                both = torch.cat([sums.flatten(), count])
                distributed.all_reduce(both)
                sums, count = both[:-1].view_as(sums), both[-1:]
            scale = 1 / count.clamp(min=1)
            # A window of 2^depth iterations, which begins with the first batch.
            amount = torch.where(self.arrivals > 0, self.share, 1.) * (count > 0)
            self.arrivals.lerp_((sums[0] * scale).to(self.arrivals.dtype), amount)
            self.rights.lerp_((sums[1] * scale).to(self.rights.dtype), amount)
            weight = self.arrivals.to(arrived.dtype).clamp(min=FEWEST)
            mean = self.rights.to(arrived.dtype) / weight
        # The value is that of the running averages, the gradient that of this batch. DDP averages
        # the gradients of the processes, so each one's share is its sum by the rows per process.
        change = right - mean * arrived
        alpha = mean + (change - change.detach()) * (scale * max(world_size(), 1)) / weight
        alpha = alpha.clamp(EDGE, 1 - EDGE)
        balance = (self.share * (alpha.log() + (1 - alpha).log())).sum()
        return -self.strength / 2 * balance

    def extra_repr(self) -> str:
        return (f'{self.in_channels}, {self.num_classes}, depth={self.depth}, '
                f'penalty={self.strength}')
