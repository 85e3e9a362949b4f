"""LSKD: class logits that are standardised at each position (Sun et al., 2024).

:Paper: `Logit Standardization in Knowledge Distillation <https://arxiv.org/abs/2403.01427>`_,
    CVPR 2024, section 4, algorithm 1.
:Compares: the class logits of RoIs or pixels, of softmax heads, by KL divergence; as an option,
    ``standardize=True``, of KDLoss and of DKDLoss. A sigmoid head is refused: the standardised
    logits of a position have a mean of 0, so they no longer say whether there is an object, which
    is what a sigmoid is for. With ``use_sigmoid=False`` the classes of each anchor are compared by
    softmax.
:Defaults: τ = 2 and weight 9 are the authors' for CIFAR-100 and ImageNet; they also weigh the
    cross entropy by 0.1 on CIFAR-100 (1.0 on ImageNet), whereas the student's own loss keeps its
    weight here (``alpha=0.9, loss_weight=10.0`` does both). For DKDLoss they multiply α and β by 9.
    The authors have no values for detectors and segmentors: those of classification are used; 0.4
    of it on the auxiliary head is our choice.
:Differs: 1. A position whose logits are all equal has no gradient; in the authors' code it has one
    10^7 times the usual, since the divisor is the 1e-7 that is added to the deviation. 2. Logits of
    one or two columns are refused: standardised, two numbers are always 0.71 and -0.71, so the loss
    is constant.
:Published: ResNet8x4, ResNet32x4, CIFAR-100, 240 epochs: KD 73.33 -> 76.62, DKD 76.32 -> 77.01
    (README); no figure for detection or segmentation.
"""
from typing import List, Optional

import torch
from torch import Tensor

from .base import DistillLoss
from .method import Method

EPS = 1e-7
"""Added to the standard deviation, as in the authors' code."""

STANDARDIZED_HAVE_NO_LEVEL = (
    'standardised logits have a mean of 0 at each position, so they lose the score of an object '
    'against the background, which a sigmoid head predicts; leave out `standardize`, use '
    'mmkd.BCKDLoss, or write `use_sigmoid=False` to compare the classes of each anchor by softmax')
"""Why standardised logits need softmax."""

LEAST_COLUMNS = 3
"""With fewer columns, standardised logits are constant except for their sign."""


def standardized(logits: Tensor) -> Tensor:
    r"""Standardise the logits of each position over its classes.

    .. math:: \hat z_c = \frac{z_c - \bar z}{s + 10^{-7}}, \quad
        s^2 = \frac{1}{C - 1} \sum_c (z_c - \bar z)^2

    Args:
        logits (Tensor): Float (N, C, *positions).

    Returns:
        Tensor: The same shape, with gradient through mean and deviation. 0 where all logits are
        equal, without gradient. Constant for fewer than three columns.

    Example:
        >>> standardized(torch.tensor([[1., 2., 3.], [30., 20., 10.]]))
        tensor([[-1.0000,  0.0000,  1.0000],
                [ 1.0000,  0.0000, -1.0000]])
    """
    is_constant = (logits == logits[:, :1]).all(1, keepdim=True)
    deviation = (logits - logits.mean(1, keepdim=True)).masked_fill(is_constant, 0.)
    spread = deviation.std(1, correction=int(logits.shape[1] > 1), keepdim=True)
    found = deviation / (spread + EPS)
    if logits.shape[1] >= LEAST_COLUMNS:
        return found
    # The rest of the gradient comes only from EPS, so it is replaced by 0 in the student's graph.
    return torch.where(torch.zeros_like(is_constant), found, found.detach())


def standardized_at(logits: Tensor, weight: Optional[Tensor]) -> Tensor:
    """The same; values at positions of weight 0, even NaN, do not reach the gradient."""
    if weight is not None:
        logits = logits.masked_fill((weight == 0).unsqueeze(1), 0.)
    return standardized(logits)


def notes_of_standardized(loss: DistillLoss, channels: int) -> List[str]:
    """See :meth:`mmkd.losses.DistillLoss.notes`."""
    if channels >= LEAST_COLUMNS:
        return []
    return [f'{type(loss).__name__}: standardised logits of {channels} '
            f'column{"s" * (channels > 1)} depend only on the signs of the logits; leave out '
            '`standardize`']


ON_CLASSES = dict(type='mmkd.KDLoss', on='cls', tau=2., standardize=True, loss_weight=9.,
                  name='loss_cls_lskd')

METHOD = Method(
    'lskd', instead=dict(dense='bckd'), roi=[ON_CLASSES], classifier=[ON_CLASSES],
    segmentor=[ON_CLASSES, dict(ON_CLASSES, on='aux', loss_weight=3.6, name='loss_aux_lskd',
                                if_there=True)])
