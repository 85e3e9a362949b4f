"""Modules that map the student's features to the teacher's channels."""
from abc import ABCMeta, abstractmethod
from typing import Any, Dict, List, Optional, Sequence, Union

from torch import Tensor, nn

from ..core.asking import Asked, asked_by, check_known
from ..core.build import build_entry
from ..registry import MODELS
from .vocabulary import PROVIDERS, Context, made_up_values, values_of


class Connector(nn.Module, metaclass=ABCMeta):
    """Base class of connectors. A subclass creates layers in :meth:`setup` and implements
    :meth:`forward`.

    It is registered in ``mmkd.MODELS``; ``connector=dict(type=...)`` of an entry builds one per
    level. It is trained with the student, and saved in the same checkpoint under ``'mmkd'``.
    ``forward`` requests further values by keyword-only parameters, as losses do; ``teacher`` is the
    teacher's level.

    Example:
        >>> class TwoLayers(Connector):
        ...     def setup(self, student_channels, teacher_channels):
        ...         self.layers = nn.Sequential(
        ...             nn.Conv2d(student_channels, teacher_channels, 1), nn.ReLU(),
        ...             nn.Conv2d(teacher_channels, teacher_channels, 1))
        ...     def forward(self, student):
        ...         return self.layers(student)
    """

    @classmethod
    def asked(cls) -> Asked:
        """Names of the values that :meth:`forward` requests."""
        return asked_by(cls.forward)

    @abstractmethod
    def setup(self, *channels: Any, **named: Any) -> None:
        """Create the layers: ``setup(self, student_channels, teacher_channels)``.

        It is called once per level, before training, and may request ``stride`` and ``level`` by
        keyword-only parameters.

        Args:
            student_channels (int): C of the student's level.
            teacher_channels (int): C of the teacher's.
        """

    @abstractmethod
    def forward(self, *levels: Any, **named: Any) -> Tensor:
        """Map a level of the student to the teacher's channels: ``forward(self, student)``.

        Args:
            student (Tensor): Float (N, C, H, W), or (N, C).

        Returns:
            Tensor: (N, teacher_channels, H, W), or (N, teacher_channels).
        """


def connect(student: Sequence[Tensor], teacher: Sequence[Tensor],
            kind: Union[str, Dict[str, Any]] = 'auto',
            strides: Sequence[Any] = (), numbers: Sequence[int] = ()) -> nn.ModuleList:
    """Build the connectors of all levels.

    Args:
        student (Sequence[Tensor]): Levels (N, C, H, W), or (N, C).
        teacher (Sequence[Tensor]): The same number of levels.
        kind (str | dict): 'conv' for a 1x1 convolution with bias on every level (a linear layer for
            (N, C)), 'auto' for one only if the channels differ; ``dict(type=...)``, a
            :class:`Connector`. Defaults to 'auto'.
        strides (Sequence): Strides of the levels, if they are known. Defaults to ().
        numbers (Sequence[int]): Numbers of the levels. Defaults to (), from 0.

    Returns:
        nn.ModuleList: One module per level, on the student's device, trainable, with the default
        initialization of torch.
    """
    connectors = nn.ModuleList()
    for number, (one, other) in enumerate(zip(student, teacher)):
        channels = one.shape[1], other.shape[1]
        if isinstance(kind, dict):
            connector = build_connector(kind)
            set_up(connector, *channels, strides, number, numbers[number] if numbers else None)
            connectors.append(connector)
        elif kind == 'auto' and channels[0] == channels[1]:
            connectors.append(nn.Identity())
        elif one.dim() == 2:
            connectors.append(nn.Linear(*channels))
        else:
            connectors.append(nn.Conv2d(*channels, kernel_size=1))
    return connectors.to(student[0].device, student[0].dtype)


def build_connector(entry: Dict[str, Any]) -> Connector:
    """Build a connector of the user.

    Raises:
        TypeError: If it is not a connector, or an argument is wrong.
        ValueError: If the type is not registered.
    """
    connector: Connector = build_entry(entry, MODELS, '`connector`', Connector)
    check_known(f'`forward` of {type(connector).__name__}', connector.asked(),
                ['teacher', *PROVIDERS])
    return connector


UNKNOWN = {
    '': "which is not known here, because the levels are not maps of the image; choose 'neck' or "
        "'backbone'",
    'num_classes': "which is not known here, because the student has no point 'cls' with classes; "
                   'leave it out'}
"""Why a value for ``setup`` is not known, by its name."""


def set_up(module: Any, student_channels: Any, teacher_channels: Any, strides: Sequence[Any],
           level: int, number: Optional[int] = None, **of_losses: Any) -> None:
    """Call ``setup`` of a loss or a connector.

    Args:
        module (DistillLoss | Connector): Its ``setup`` may request ``stride`` and ``level``, that
            of a loss the names of ``of_losses``, too.
        student_channels (int | list[int]): See ``setup``.
        teacher_channels (int | list[int]): See ``setup``.
        strides (Sequence): Strides of the levels; () if the levels are not maps of the image.
        level (int): Number of the level; -1 for all levels at once.
        number (int, optional): Number of the level as the module gets it. Defaults to None,
            ``level``.
        **of_losses: Values that a loss may request. None is a value that is not known here.

    Raises:
        ValueError: If ``setup`` requests another name, or a value that is not known.
    """
    asked = asked_by(type(module).setup)
    what = f'`setup` of {type(module).__name__}'
    of_levels = [float(one[0]) for one in strides]
    known = dict(stride=(of_levels[level] if level >= 0 else of_levels) if of_levels else None,
                 level=(level if number is None else number) if level >= 0 else None,
                 **of_losses)
    for name in asked.required:
        if known.get(name) is None:
            raise ValueError(
                f'{what} requires `{name}`, ' + (
                    UNKNOWN.get(name, UNKNOWN['']) if name in known else 'but only '
                                                                         f'`{"`, `".join(known)}` '
                                                                         'can be requested; use '
                                                                         'these names only'))
    given = {name: known[name] for name in asked.names if name in known}
    module.setup(student_channels, teacher_channels, **given)


def connected(connectors: nn.ModuleList, context: Context, name: str,
              is_trial: bool = False) -> List[Tensor]:
    """Outputs of the connectors for the student's levels.

    Args:
        connectors (nn.ModuleList): One per level.
        context (Context): The levels.
        name (str): Name of the term, for the message.
        is_trial (bool): Whether the input is a blank image, for which values are generated.

    Raises:
        TypeError: If a connector does not return a tensor.
    """
    levels = []
    for number, (connector, level) in enumerate(zip(connectors, context.student)):
        named: Dict[str, Any] = {}
        if isinstance(connector, Connector):
            context.level = number
            asked = connector.asked().without('teacher')
            named = made_up_values(asked, context, False) if is_trial else (
                values_of(asked, context))
            if 'teacher' in connector.asked().names:
                named['teacher'] = context.teacher[number].detach()
        found: Any = connector(level, **named)
        if not isinstance(found, Tensor):
            raise TypeError(f'`{name}`: {type(connector).__name__} must return a tensor, but '
                            f'returned {type(found).__name__}; return a tensor from its `forward`')
        levels.append(found)
    return levels
