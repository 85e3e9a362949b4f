"""What every distillation loss shares: checks, precision, levels, weights of positions."""
from abc import ABCMeta, abstractmethod
from typing import Any, Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

from ..core.arguments import finite_number
from ..core.asking import Asked, asked_by, check_given, takes_positional

TensorOrLevels = Union[Tensor, Sequence[Tensor]]

Value = Union[Tensor, Dict[str, Tensor]]
"""A scalar, or several by the name of the part."""

PER_POSITION = ('labels', 'label_weights')
"""Names whose values have the shape of the positions, (N, *positions)."""

PER_LEVEL = (*PER_POSITION, 'stride', 'level', 'priors', 'student_also', 'teacher_also')
"""Names that have a value for each level, so that lists of levels come with lists of these."""


class DistillLoss(nn.Module, metaclass=ABCMeta):
    """Base class: a subclass writes only its formula, :meth:`compare`.

    ``compare`` asks for further values by naming them as keyword-only parameters, such as
    ``labels`` or ``boxes``: without a default they are required, with ``=None`` optional. Inside a
    :class:`mmkd.Distiller` they come from the batch; see docs/your_own.md for all names.

    Args:
        loss_weight (float): Factor of the result, 0 or more. Defaults to 1.0.

    Attributes:
        must_match (frozenset[str]): What both sides must have equal: 'channels', 'positions'.
            Features get no connector where channels may differ, and are not interpolated where
            positions may. Defaults to both.
        also (tuple[str]): Further points whose values it asks for as ``student_also`` or
            ``teacher_also``, unless the entry names others. Defaults to (), none.
        levels (str): 'each': ``compare`` is given one level at a time; 'all': it is given lists of
            all levels. Defaults to 'each'.
        layers_in (str): 'float32', or 'autocast': its layers run in the precision of the run's
            autocast. Defaults to 'float32'.
        communicates (bool): Whether it exchanges tensors between processes. It is refused where a
            process may skip the term. Defaults to False.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is negative or not finite.

    Example:
        >>> class AbsoluteLoss(DistillLoss):
        ...     def compare(self, student, teacher, weight=None, *, labels):
        ...         error = (student - teacher).abs().mean(1)
        ...         return error[labels >= 0].mean()
        >>> one = torch.zeros(2, 4, 3)
        >>> AbsoluteLoss()(one, one + 2, labels=torch.zeros(2, 3).long())
        tensor(2.)
    """

    must_match: FrozenSet[str] = frozenset({'channels', 'positions'})
    also: Tuple[str, ...] = ()
    levels = 'each'
    layers_in = 'float32'
    communicates = False
    checks_weights = True
    """Whether negative weights are refused, where that does not make the CPU wait for a GPU."""

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = finite_number('loss_weight', loss_weight, least=0)

    @classmethod
    def asked(cls) -> Asked:
        """What its formula asks for by name."""
        return asked_by(cls.compare)

    def setup(self, *channels: Any, **named: Any) -> None:
        """Make the layers that the formula needs: ``setup(self, student_channels,
        teacher_channels)``. A subclass with layers overrides it.

        It is called once, before training; with ``levels='each'`` once for each level, on a copy of
        the loss. It may ask by name for ``stride`` and ``level``.

        Args:
            student_channels (int | list[int]): C of the student's level; with ``levels='all'`` of
                each level.
            teacher_channels (int | list[int]): The teacher's.
        """

    @property
    def has_setup(self) -> bool:
        """Whether a subclass makes layers in :meth:`setup`."""
        return type(self).setup is not DistillLoss.setup

    @property
    def is_trained(self) -> bool:
        """Whether it has layers or buffers, which must be trained and saved beside the student."""
        return self.has_setup or any(True for _ in (*self.parameters(), *self.buffers()))

    def forward(self,
                student: TensorOrLevels,
                teacher: TensorOrLevels,
                weight: Optional[TensorOrLevels] = None,
                **named: Any) -> Union[Value, List[Value]]:
        """Compare the student with the teacher.

        Args:
            student (Tensor | Sequence[Tensor]): Float (N, C) or (N, C, *positions), for instance
                (N, C, H, W), or a list of such, one per level.
            teacher (Tensor | Sequence[Tensor]): The same shapes, but for what :attr:`must_match`
                leaves free; treated as constant.
            weight (Tensor | Sequence[Tensor], optional): Weight of each position, (N,) or
                (N, *positions), 0 or more; a mask is a weight of zeros and ones.
                Defaults to None, all positions alike.
            **named: What the formula asks for by name. With lists of levels, what belongs to a
                level (``labels``, ``stride``) is a list, too.

        Returns:
            Tensor | dict[str, Tensor] | list: A scalar, or a dict of named parts; for lists of
            levels a list of these, one per level, unless :attr:`levels` is 'all'. Float32 also
            under autocast (float64 for float64 input); 0, still attached to the student, where no
            position is left.

        Raises:
            TypeError: If the student is one tensor and the teacher a list, or the reverse; if a
                name is missing or unknown.
            ValueError: If shapes or numbers of levels differ, or a weight on the CPU is negative;
                the message shows what was found.
        """
        if isinstance(student, Tensor) != isinstance(teacher, Tensor):
            raise TypeError(
                f'{type(self).__name__} compares a tensor with a tensor or a list with a list, '
                f'but got {type(student).__name__} and {type(teacher).__name__}; give both as one '
                'kind')
        check_given(type(self).__name__, self.asked(), named)
        is_single = isinstance(student, Tensor)
        if is_single and self.levels == 'each':
            return self._forward([student], [teacher], [weight], named)  # type: ignore[list-item]
        if is_single:
            student, teacher = [student], [teacher]  # type: ignore[list-item]
            weight = None if weight is None else [weight]  # type: ignore[list-item]
            named = {key: [value] if key in PER_LEVEL else value for key, value in named.items()}
        weights: Sequence[Optional[Tensor]] = (
            [None] * len(student) if weight is None else weight)  # type: ignore[assignment]
        if not len(student) == len(teacher) == len(weights):
            raise ValueError(
                f'{type(self).__name__} needs as many levels on both sides, but got '
                f'{len(student)} of the student, {len(teacher)} of the teacher and '
                f'{len(weights)} of weights; give as many of each')
        for name in (name for name in named if name in PER_LEVEL and named[name] is not None):
            if not isinstance(named[name], (list, tuple)) or len(named[name]) != len(student):
                raise ValueError(f'{type(self).__name__} needs `{name}` for each of {len(student)} '
                                 'levels; give a list of as many')
        if self.levels == 'all':
            return self._forward(student, teacher, weights, named)  # type: ignore[arg-type]
        return [
            self._forward([s], [t], [w], {
                name: value[number] if name in PER_LEVEL and value is not None else value
                for name, value in named.items()})
            for number, (s, t, w) in enumerate(zip(student, teacher, weights))
        ]

    def _forward(self, student: List[Tensor], teacher: List[Tensor],
                 weight: Sequence[Optional[Tensor]], named: Mapping[str, Any]) -> Value:
        """One call of the formula, on float32 and without autocast."""
        for number, (s, t, w) in enumerate(zip(student, teacher, weight)):
            self._check(s, t, w, {name: (named[name][number] if self.levels == 'all' else
                                         named[name]) for name in PER_POSITION
                                  if named.get(name) is not None})
        device = student[0].device.type if student else 'cpu'
        is_autocast = self.layers_in == 'autocast' and torch.is_autocast_enabled(device)
        with torch.autocast(device_type=device, enabled=is_autocast):
            sides: List[List[Any]] = [[], [], []]
            for s, t, w in zip(student, teacher, weight):
                dtype = torch.promote_types(torch.promote_types(s.dtype, t.dtype), torch.float32)
                for side, one in zip(sides, (s, t.detach(), w)):
                    side.append(None if one is None else one.to(dtype))
                if w is not None:
                    self._check_weight(sides[2][-1].detach())
            sides[2] = [None if one is None else one.detach() for one in sides[2]]
            arguments: List[Any] = [side if self.levels == 'all' else side[0] for side in sides]
            if all(one is None for one in weight):
                arguments[2] = None
            if not takes_positional(type(self).compare, 4) and arguments.pop() is not None:
                raise ValueError(f'{type(self).__name__} takes no weights of positions; leave '
                                 'out `region`, or take another loss')
            return self._scaled(self.compare(*arguments, **named))

    def _scaled(self, value: Any) -> Value:
        if isinstance(value, dict):
            return {name: self.loss_weight * one for name, one in value.items()}
        return self.loss_weight * value

    def _check_weight(self, weight: Tensor) -> None:
        if self.checks_weights and weight.device.type == 'cpu' and (weight < 0).any():
            raise ValueError(f'{type(self).__name__} needs weights of 0 or more, but the '
                             f'smallest is {weight.min().item():g}; write 0 where a '
                             'position is to be left out')

    def _check(self, student: Tensor, teacher: Tensor, weight: Optional[Tensor],
               named: Mapping[str, Any]) -> None:
        """Whether shapes are as :attr:`must_match` says."""
        shapes = [list(one.shape) for one in (student, teacher)]
        free = [dim for dim in range(1, max(map(len, shapes)))
                if ('channels' if dim == 1 else 'positions') not in self.must_match]
        compared = [[size for dim, size in enumerate(shape) if dim not in free]
                    for shape in shapes]
        if min(map(len, shapes)) < 2 or compared[0] != compared[1]:
            wanted = ('of equal shape' if not free else
                      f'of equal {"batch size and channels" if 1 not in free else "positions"}'
                      if 'channels' in self.must_match or 'positions' in self.must_match else
                      'of equal batch size')
            raise ValueError(
                f'{type(self).__name__} compares tensors (N, C, ...) {wanted}, but got '
                f'{tuple(student.shape)} of the student and {tuple(teacher.shape)} of the teacher; '
                'give both one shape')
        positions = (student.shape[0], *student.shape[2:])
        if weight is not None and weight.shape != positions:
            raise ValueError(
                f'{type(self).__name__} needs one weight per position, {tuple(positions)}, '
                f'but got {tuple(weight.shape)}; give a weight without the dimension of classes')
        for name, value in named.items():
            if value.shape != positions:
                raise ValueError(
                    f'{type(self).__name__} needs `{name}` of each position, {tuple(positions)}, '
                    f'but got {tuple(value.shape)}; give it without the dimension of classes')

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
    def compare(self, *tensors: Any, **named: Any) -> Any:
        """The formula: ``compare(self, student, teacher, weight=None)``.

        A subclass may leave out ``weight``, and ask for values by name.

        Args:
            student (Tensor): Float32 or float64 (N, C, *positions); with ``levels='all'`` a list.
            teacher (Tensor): Without gradient; the same shape, but for what :attr:`must_match`
                leaves free.
            weight (Tensor, optional): The same dtype, (N, *positions).

        Returns:
            Tensor | dict[str, Tensor]: A scalar, or named parts, before ``loss_weight``.
        """
