"""Base class of losses over class probabilities."""
from typing import Any, Dict, List, Optional

import torch
from torch import Tensor

from ..core.arguments import temperature
from ..core.asking import Asked, asked_by
from .base import PER_POSITION, DistillLoss


class LogitLoss(DistillLoss):
    """Base class of losses that turn logits into probabilities.

    Args:
        tau (float): Temperature, greater than 0. Defaults to 1.0.
        use_sigmoid (bool, optional): Whether the classes are independent (sigmoid) or exclude each
            other (softmax over dimension 1). Defaults to None: the activation of the student's
            head inside a :class:`mmkd.Distiller`, softmax otherwise.
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Attributes:
        needs_softmax (str): Why the formula has no meaning for classes that are independent of each
            other (sigmoid), and what to use instead. A head with sigmoid is then refused before
            training. Defaults to '', it has one.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``tau`` is not greater than 0, or ``use_sigmoid`` is True for a loss that
            needs softmax.

    Example:
        >>> class Difference(LogitLoss):
        ...     def compare_rows(self, student, teacher, weight):
        ...         return (student.softmax(1) - teacher.softmax(1)).abs().mean()
        >>> logits = torch.randn(2, 3, 4, 4)
        >>> Difference()(logits, logits).item()
        0.0
    """

    needs_softmax = ''

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
        check_activation(self, '`use_sigmoid=True`', use_sigmoid)

    @classmethod
    def asked(cls) -> Asked:
        """Names of the values that :meth:`compare` or :meth:`compare_rows` requests."""
        return asked_by(cls.compare_rows if cls.compare is LogitLoss.compare else cls.compare)

    def notes(self, channels: int) -> List[str]:
        if channels > 1 or self.use_sigmoid:
            return []
        return [f'{type(self).__name__}: softmax over 1 column is always 1; write '
                '`use_sigmoid=True` if the column is a class against background, or use '
                'mmkd.MSELoss']

    def compare(self, student: Tensor, teacher: Tensor, weight: Optional[Tensor] = None,
                **named: Any) -> Any:
        """Evaluate :meth:`compare_rows` by autograd."""
        student, teacher = to_rows(student), to_rows(teacher)
        named = {name: value.flatten() if name in PER_POSITION and value is not None else value
                 for name, value in named.items()}
        if student.numel() == 0:
            return student.sum() * 0
        if weight is None:
            return self._scaled_rows(student, teacher, student.new_ones(len(student)), None, named)
        weight = weight.flatten()
        # Values at masked positions, even NaN, must not reach the sums.
        is_masked = (weight == 0).unsqueeze(1)
        student, teacher = student.masked_fill(is_masked, 0), teacher.masked_fill(is_masked, 0)
        # A tensor on the device: reading it would make the CPU wait. If all weights are 0, they are
        # replaced by 1, so that the formula and its gradient are finite; the value is set to 0.
        is_any_left = weight.any()
        weight = torch.where(is_any_left, weight, 1.)
        return self._scaled_rows(student, teacher, weight, is_any_left, named)

    def _scaled_rows(self, student: Tensor, teacher: Tensor, weight: Tensor,
                     is_any_left: Optional[Tensor], named: Dict[str, Any]) -> Any:
        """The formula times τ²; 0 if no position has a positive weight."""
        def scaled(value: Tensor) -> Tensor:
            value = value * self.tau**2
            return value if is_any_left is None else torch.where(is_any_left, value, 0.)

        value = self.compare_rows(student / self.tau, teacher / self.tau, weight, **named)
        if isinstance(value, dict):
            return {name: scaled(one) for name, one in value.items()}
        return scaled(value)

    def compare_rows(self, student: Tensor, teacher: Tensor, weight: Tensor) -> Any:
        """The formula on rows, without the factor τ². A subclass implements this or ``compare``.

        Args:
            student (Tensor): Float (M, C), logits / τ; M positions of all images.
            teacher (Tensor): The same.
            weight (Tensor): Float (M,), not all zero.

        Returns:
            Tensor | dict[str, Tensor]: A scalar, or named parts.
        """
        raise NotImplementedError(f'{type(self).__name__} has no formula; define `compare_rows` or '
                                  '`compare`')


def check_activation(loss: LogitLoss, what: str, use_sigmoid: Optional[bool]) -> None:
    """Check the activation for a loss.

    Raises:
        ValueError: If it is a sigmoid, and the formula needs softmax.
    """
    if use_sigmoid and loss.needs_softmax:
        raise ValueError(f'{what}, but {loss.needs_softmax}')


def to_rows(x: Tensor) -> Tensor:
    """Bring (N, C, *positions) to (N·positions, C)."""
    return x.flatten(2).transpose(1, 2).reshape(-1, x.shape[1]) if x.dim() > 2 else x


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean over dimension 0 of (M, ...) with weights (M,) that are not all zero."""
    weight = weight / weight.sum()
    return torch.tensordot(weight, values, dims=1)
