"""What every distillation loss shares: checks, precision, levels, weights of positions."""
from abc import ABCMeta, abstractmethod
from typing import List, Optional, Sequence, Union

import torch
from torch import Tensor, nn

from ..core.arguments import finite_number, temperature

TensorOrLevels = Union[Tensor, Sequence[Tensor]]


class DistillLoss(nn.Module, metaclass=ABCMeta):
    """Base class: a subclass writes only its formula, :meth:`compare`.

    Args:
        loss_weight (float): Factor of the result, 0 or more. Defaults to 1.0.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is negative or not finite.
    """

    checks_weights = True
    """Whether negative weights are refused, where that does not make the CPU wait for a GPU."""

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = finite_number('loss_weight', loss_weight, least=0)

    def forward(self,
                student: TensorOrLevels,
                teacher: TensorOrLevels,
                weight: Optional[TensorOrLevels] = None) -> Union[Tensor, List[Tensor]]:
        """Compare the student with the teacher.

        Args:
            student (Tensor | Sequence[Tensor]): Float (N, C) or (N, C, *positions), for instance
                (N, C, H, W), or a list of such, one per level.
            teacher (Tensor | Sequence[Tensor]): The same shapes; treated as constant.
            weight (Tensor | Sequence[Tensor], optional): Weight of each position, (N,) or
                (N, *positions), 0 or more; a mask is a weight of zeros and ones.
                Defaults to None, all positions alike.

        Returns:
            Tensor | list[Tensor]: A scalar, or a list of scalars, one per level. Float32 also under
            autocast (float64 for float64 input); 0, still attached to the student, where no
            position is left.

        Raises:
            TypeError: If the student is one tensor and the teacher a list, or the reverse.
            ValueError: If shapes or numbers of levels differ, or a weight on the CPU is negative;
                the message shows what was found.
        """
        if isinstance(student, Tensor) != isinstance(teacher, Tensor):
            raise TypeError(
                f'{type(self).__name__} compares a tensor with a tensor or a list with a list, '
                f'but got {type(student).__name__} and {type(teacher).__name__}; give both as one '
                'kind')
        if isinstance(student, Tensor):
            return self._forward_single(student, teacher, weight)  # type: ignore[arg-type]
        weights = [None] * len(student) if weight is None else weight
        if not len(student) == len(teacher) == len(weights):
            raise ValueError(
                f'{type(self).__name__} needs as many levels on both sides, but got '
                f'{len(student)} of the student, {len(teacher)} of the teacher and '
                f'{len(weights)} of weights; give as many of each')
        return [
            self._forward_single(s, t, w) for s, t, w in zip(student, teacher, weights)
        ]

    def _forward_single(self, student: Tensor, teacher: Tensor,
                        weight: Optional[Tensor]) -> Tensor:
        if student.dim() < 2 or student.shape != teacher.shape:
            raise ValueError(
                f'{type(self).__name__} compares tensors (N, C, ...) of equal shape, but got '
                f'{tuple(student.shape)} of the student and {tuple(teacher.shape)} of the teacher; '
                'give both one shape')
        positions = (student.shape[0], *student.shape[2:])
        if weight is not None and weight.shape != positions:
            raise ValueError(
                f'{type(self).__name__} needs one weight per position, {tuple(positions)}, '
                f'but got {tuple(weight.shape)}; give a weight without the dimension of classes')
        with torch.autocast(device_type=student.device.type, enabled=False):
            dtype = torch.promote_types(torch.promote_types(student.dtype, teacher.dtype),
                                        torch.float32)
            student, teacher = student.to(dtype), teacher.detach().to(dtype)
            if weight is not None:
                weight = weight.detach().to(dtype)
                if self.checks_weights and weight.device.type == 'cpu' and (weight < 0).any():
                    raise ValueError(f'{type(self).__name__} needs weights of 0 or more, but the '
                                     f'smallest is {weight.min().item():g}; write 0 where a '
                                     'position is to be left out')
            return self.loss_weight * self.compare(student, teacher, weight)

    def notes(self, channels: int) -> List[str]:
        """What of the formula cannot teach where it is used, for a subclass to say.

        The notes are logged before training, and shown in the table of ``inspect_pair``.

        Args:
            channels (int): C of the tensors (N, C, ...) that are compared.

        Returns:
            list[str]: A sentence for each part that is left out, without a full stop: why, and what
            to use instead. Defaults to [], the whole formula counts.
        """
        return []

    @abstractmethod
    def compare(self, student: Tensor, teacher: Tensor, weight: Optional[Tensor]) -> Tensor:
        """The formula.

        Args:
            student (Tensor): Float32 or float64 (N, C, *positions).
            teacher (Tensor): The same shape and dtype, without gradient.
            weight (Tensor, optional): The same dtype, (N, *positions).

        Returns:
            Tensor: A scalar, before ``loss_weight``.
        """


class LogitLoss(DistillLoss):
    """Base class of losses that turn logits into probabilities.

    Args:
        tau (float): Temperature, greater than 0. Defaults to 1.0.
        use_sigmoid (bool, optional): Whether the classes are independent (sigmoid) or exclude each
            other (softmax over dimension 1). None means softmax when the loss is used alone and
            the head's own activation inside a :class:`mmkd.Distiller`. Defaults to None.
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``tau`` is not greater than 0.
    """

    def __init__(self,
                 tau: float = 1.0,
                 use_sigmoid: Optional[bool] = None,
                 loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.tau = temperature(tau)
        if not (use_sigmoid is None or isinstance(use_sigmoid, bool)):
            raise TypeError(f'`use_sigmoid` must be True, False or None, but got {use_sigmoid!r}; '
                            'write one of these, or leave it out')
        self.use_sigmoid = use_sigmoid

    def notes(self, channels: int) -> List[str]:
        if channels > 1 or self.use_sigmoid:
            return []
        return [f'{type(self).__name__}: softmax over 1 column is 1 whatever the logit is; write '
                '`use_sigmoid=True` if the column is a class against background, or use '
                'mmkd.MSELoss']

    def compare(self, student: Tensor, teacher: Tensor, weight: Optional[Tensor]) -> Tensor:
        """The formula on rows, by autograd."""
        student, teacher = to_rows(student), to_rows(teacher)
        if student.numel() == 0:
            return student.sum() * 0
        if weight is None:
            weight = student.new_ones(student.shape[0])
            return self.compare_rows(student / self.tau, teacher / self.tau, weight) * self.tau**2
        weight = weight.flatten()
        # Whatever stands at a masked position, even NaN, must not reach the sums.
        is_masked = (weight == 0).unsqueeze(1)
        student, teacher = student.masked_fill(is_masked, 0), teacher.masked_fill(is_masked, 0)
        # On the device: the CPU would wait for the value. With weights of 1 in place of all zeros
        # the formula, and so its gradient, stays finite where its value does not count.
        is_any_left = weight.any()
        weight = torch.where(is_any_left, weight, 1.)
        loss = self.compare_rows(student / self.tau, teacher / self.tau, weight) * self.tau**2
        return torch.where(is_any_left, loss, 0.)

    @abstractmethod
    def compare_rows(self, student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
        """The formula on rows, before the factor τ².

        Args:
            student (Tensor): Float (M, C), logits / τ; M positions of all images.
            teacher (Tensor): The same.
            weight (Tensor): Float (M,), not all zero.

        Returns:
            Tensor: A scalar.
        """


def to_rows(x: Tensor) -> Tensor:
    """Bring (N, C, *positions) to (N·positions, C)."""
    return x.flatten(2).transpose(1, 2).reshape(-1, x.shape[1]) if x.dim() > 2 else x


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean over dimension 0 of (M, ...) with weights (M,) that are not all zero."""
    weight = weight / weight.sum()
    return torch.tensordot(weight, values, dims=1)
