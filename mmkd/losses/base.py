"""Base class of distillation losses: checks, precision, levels, weights of positions."""
from abc import ABCMeta, abstractmethod
from typing import (
    Any,
    Dict,
    FrozenSet,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    Union,
)

import torch
from torch import Tensor, nn

from ..core.aliases import warn_renamed
from ..core.arguments import finite_number
from ..core.asking import Asked, asked_by, check_given, takes_positional

TensorOrLevels = Union[Tensor, Sequence[Tensor]]

Value = Union[Tensor, Dict[str, Tensor]]
"""A scalar, or a dict from the name of a part to a scalar."""

def __getattr__(name: str) -> Any:
    if name not in ('LogitLoss', 'to_rows', 'weighted_mean'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from . import logits
    warn_renamed(f'`mmkd.losses.base.{name}`', f'`mmkd.losses.logits.{name}`')
    return getattr(logits, name)


PER_POSITION = ('labels', 'label_weights')
"""Names whose values have the shape of the positions, (N, *positions)."""

PER_LEVEL = (*PER_POSITION, 'stride', 'level', 'priors', 'student_also', 'teacher_also')
"""Names with one value per level: for lists of levels, these values are lists, too."""


class DistillLoss(nn.Module, metaclass=ABCMeta):
    """Base class of distillation losses. A subclass implements its formula in :meth:`compare`.

    ``compare`` requests further values by keyword-only parameters, such as ``labels`` or
    ``boxes``: a parameter without a default is required, one with ``=None`` optional. A
    :class:`mmkd.Distiller` takes the values from the batch; docs/your_own.md lists all names.

    Args:
        loss_weight (float): Factor of the result, 0 or more. Defaults to 1.0.

    Attributes:
        must_match (frozenset[str]): Properties that must be equal on both sides: 'channels',
            'positions'. If channels may differ, features get no connector; if positions may
            differ, features are not interpolated. Defaults to both.
        also (tuple[str]): Further points whose values it requests as ``student_also`` or
            ``teacher_also``, unless the entry names others. Defaults to (), none.
        levels (str): 'each': ``compare`` is called once per level; 'all': it is called once, with
            lists of all levels. Defaults to 'each'.
        layers_in (str): Precision of the layers of the loss: 'float32', or 'autocast', that of the
            autocast of the run. Defaults to 'float32'.
        clip_norm (float, optional): Maximum norm of the gradient of the layers of the loss. They
            are clipped before each step of the optimizer, apart from the student's parameters.
            Defaults to None, no clipping.
        pairs_queries (bool): Whether unordered predictions (DETR) are paired by class and place
            before ``compare``. If not, it gets those of both sides as they are, whose numbers may
            differ if 'positions' is not in ``must_match``. Defaults to True.
        communicates (bool): Whether the loss exchanges tensors between processes. Such a loss is
            refused at a point where a process may skip the term. Defaults to False.

    Raises:
        TypeError: If ``loss_weight`` is not a number.
        ValueError: If ``loss_weight`` is negative or not finite.

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
    clip_norm: Optional[float] = None
    pairs_queries = True
    communicates = False
    checks_weights = True
    """Whether weights on the CPU are checked for negative values. On a GPU the check would make the
    CPU wait."""

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = finite_number('loss_weight', loss_weight, least=0)

    @classmethod
    def asked(cls) -> Asked:
        """Names of the values that the formula requests."""
        return asked_by(cls.compare)

    def setup(self, *channels: Any, **named: Any) -> None:
        """Create the layers that the formula needs: ``setup(self, student_channels,
        teacher_channels)``. A subclass with layers overrides it.

        It is called once, before training; with ``levels='each'`` once per level, on a copy of the
        loss. By keyword-only parameters it may request ``stride``, ``level``, ``teacher_level``
        (among all levels of the teacher's point), and ``num_classes`` of the student.

        Args:
            student_channels (int | list[int]): C of the student's level; with ``levels='all'`` a
                list with C of each level.
            teacher_channels (int | list[int]): The same of the teacher.
        """

    @property
    def has_setup(self) -> bool:
        """Whether the subclass overrides :meth:`setup`."""
        return type(self).setup is not DistillLoss.setup

    @property
    def is_trained(self) -> bool:
        """Whether the loss has parameters or buffers, to be trained and saved outside the
        student."""
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
            teacher (Tensor | Sequence[Tensor]): Constant. The same shapes, except for dimensions
                that may differ according to :attr:`must_match`.
            weight (Tensor | Sequence[Tensor], optional): Weight of each position, (N,) or
                (N, *positions), 0 or more; a mask is a weight of zeros and ones.
                Defaults to None, equal weights.
            **named: Values that the formula requests by name. For lists of levels, the values that
                belong to a level (``labels``, ``stride``) are lists, too.

        Returns:
            Tensor | dict[str, Tensor] | list: A scalar, or a dict of named parts; for lists of
            levels a list of these, one per level, unless :attr:`levels` is 'all'. The dtype is
            float32, also under autocast, or float64 for float64 input. Without any position the
            value is 0 and remains part of the student's graph.

        Raises:
            TypeError: If one side is a tensor and the other a list, or if a required name is
                missing or a name is unknown.
            ValueError: If the shapes or the numbers of levels differ, or if a weight on the CPU is
                negative.
        """
        if isinstance(student, Tensor) != isinstance(teacher, Tensor):
            raise TypeError(
                f'{type(self).__name__} compares two tensors or two lists, but got '
                f'{type(student).__name__} and {type(teacher).__name__}; pass two tensors or two '
                'lists')
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
                f'{type(self).__name__} needs the same number of levels on both sides, but got '
                f'{len(student)} of the student, {len(teacher)} of the teacher and {len(weights)} '
                'of weights; pass the same number of each')
        for name in (name for name in named if name in PER_LEVEL and named[name] is not None):
            if not isinstance(named[name], (list, tuple)) or len(named[name]) != len(student):
                raise ValueError(f'{type(self).__name__} needs `{name}` for each level; pass a '
                                 f'list of {len(student)}')
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
        """Call the formula once, on float32 tensors and without autocast."""
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
                raise ValueError(f'{type(self).__name__} does not support weights of positions; '
                                 'leave out `region`, or use another loss')
            try:
                return self._scaled(self.compare(*arguments, **named))
            except AttributeError as error:
                if not self.has_setup or 'object has no attribute' not in str(error):
                    raise
                raise AttributeError(f'{error}; if its `setup` makes it, call '
                                     '`setup(student_channels, teacher_channels)` first') from error

    def _scaled(self, value: Any) -> Value:
        if isinstance(value, dict):
            return {name: self.loss_weight * one for name, one in value.items()}
        if value is None:
            raise TypeError(f'`compare` of {type(self).__name__} returned None; return a scalar, '
                            'or a dict of named scalars')
        return self.loss_weight * value

    def _check_weight(self, weight: Tensor) -> None:
        if self.checks_weights and weight.device.type == 'cpu' and (weight < 0).any():
            raise ValueError(f'{type(self).__name__} needs weights of 0 or more, but the '
                             f'smallest is {weight.min().item():g}; write 0 where a '
                             'position is to be left out')

    def _check(self, student: Tensor, teacher: Tensor, weight: Optional[Tensor],
               named: Mapping[str, Any]) -> None:
        """Check the shapes against :attr:`must_match`."""
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
                'pass tensors of matching shapes')
        positions = (student.shape[0], *student.shape[2:])
        if weight is not None and weight.shape != positions:
            raise ValueError(
                f'{type(self).__name__} needs one weight per position, {tuple(positions)}, but got '
                f'{tuple(weight.shape)}; pass a weight without the class dimension')
        for name, value in named.items():
            if value.shape != positions:
                raise ValueError(
                    f'{type(self).__name__} needs `{name}` of each position, {tuple(positions)}, '
                    f'but got {tuple(value.shape)}; pass it without the class dimension')

    def notes(self, channels: int) -> List[str]:
        """Parts of the formula that have no gradient for tensors of so many channels.

        A subclass may override it. The notes are logged before training and shown in the table of
        ``inspect_pair``.

        Args:
            channels (int): C of the tensors (N, C, ...) that are compared.

        Returns:
            list[str]: One sentence per part that is left out, without a full stop: the reason, and
            an alternative. Defaults to [], the whole formula is used.
        """
        return []

    @abstractmethod
    def compare(self, *tensors: Any, **named: Any) -> Any:
        """The formula: ``compare(self, student, teacher, weight=None)``.

        A subclass may omit ``weight``, and may request values by keyword-only parameters.

        Args:
            student (Tensor): Float32 or float64 (N, C, *positions); with ``levels='all'`` a list.
            teacher (Tensor): Without gradient; the same shape, except for dimensions that may
                differ according to :attr:`must_match`.
            weight (Tensor, optional): The same dtype, (N, *positions).

        Returns:
            Tensor | dict[str, Tensor]: A scalar, or named parts, before ``loss_weight``.
        """
