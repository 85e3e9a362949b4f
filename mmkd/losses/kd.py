"""KD: the student's probabilities follow the teacher's (Hinton et al., 2015)."""
import torch
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid

from ..registry import MODELS
from .base import LogitLoss, weighted_mean


@MODELS.register_module()
class KDLoss(LogitLoss):
    r"""Kullback-Leibler divergence of softened class probabilities.

    `Distilling the Knowledge in a Neural Network <https://arxiv.org/abs/1503.02531>`_, section 2.
    With :math:`p = act(logits / \tau)` and M positions of all images:

    - softmax: :math:`\tau^2 \frac{1}{M} \sum_m \sum_c p^T (\log p^T - \log p^S)`;
    - sigmoid: each class is a Bernoulli variable,
      :math:`\tau^2 \frac{1}{M} \sum_m \sum_c [p^T (\log p^T - \log p^S)
      + (1 - p^T)(\log(1 - p^T) - \log(1 - p^S))]`.

    The factor τ² keeps the gradient's size when τ grows (the paper, section 2.1). The mean is over
    positions, not only over images: codes differ here by orders of magnitude.

    Args:
        tau (float): Temperature, greater than 0. Defaults to 1.0.
        use_sigmoid (bool, optional): Sigmoid or softmax. None is softmax when the loss is used
            alone, the head's own activation inside a Distiller. Defaults to None.
        loss_weight (float): Factor of the result. Defaults to 1.0.
    """

    def compare_rows(self, student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
        if self.use_sigmoid:
            divergence = (
                teacher.sigmoid() * (logsigmoid(teacher) - logsigmoid(student)) +
                (-teacher).sigmoid() * (logsigmoid(-teacher) - logsigmoid(-student)))
        else:
            log_p_student, log_p_teacher = log_softmax(student, 1), log_softmax(teacher, 1)
            divergence = torch.exp(log_p_teacher) * (log_p_teacher - log_p_student)
        return weighted_mean(divergence.sum(1), weight)
