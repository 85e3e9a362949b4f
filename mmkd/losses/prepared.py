"""Base classes of methods with two stages: a module learns through the teacher, a loss uses it."""
from abc import ABCMeta, abstractmethod
from typing import Any, Dict, Optional, Sequence, Tuple, Type, Union

import torch
from torch import Tensor, nn

from ..core.prepared_file import PreparedFile, read_prepared
from ..core.table import LOSSES
from .base import DistillLoss


class PreparedModule(nn.Module, metaclass=ABCMeta):
    """Base class of modules that :class:`mmkd.Prepare` trains, one per level of a point.

    A subclass is registered by ``@PREPARED.register`` (:mod:`mmkd.core.table`), or in
    ``mmkd.MODELS``.

    Example:
        >>> from mmkd.losses import MaskTokens
        >>> issubclass(MaskTokens, PreparedModule)
        True
    """

    @abstractmethod
    def setup(self, channels: int) -> None:
        """Create the parameters for a level of so many channels. It is called once."""

    @abstractmethod
    def forward(self, features: Tensor) -> Tuple[Tensor, Dict[str, Tensor]]:
        """Replace the features of the teacher.

        Args:
            features (Tensor): Float32 (N, C, H, W), of the teacher.

        Returns:
            tuple[Tensor, dict[str, Tensor]]: Features of the same shape, with which the teacher
            continues, and losses of the module itself by name, scalars.
        """


class PreparedLoss(DistillLoss):
    """Base class of losses that use a frozen module of a first stage.

    The weights of the module are not trained, and not saved in checkpoints: they are read from the
    file again. A Distiller checks before the first batch that the file was made with its teacher,
    at the same point.

    Args:
        tokens (str | list[str], optional): The file of the first stage; for a
            :class:`mmkd.Committee` a list with the file of each member, in their order. A loss
            without one has an error in :meth:`setup`. Defaults to None.
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Attributes:
        module (type): Class of the module, a :class:`PreparedModule`.
        method (str): Name of the method, for the message that says how the file is made.
        file (PreparedFile | None): The file, available after :meth:`setup`.
        frozen (PreparedModule): The module of this level, available after :meth:`setup`.

    Raises:
        TypeError: If an argument is of the wrong type.

    Example:
        >>> from mmkd.losses import MasKDLoss
        >>> MasKDLoss.module.__name__, MasKDLoss.method
        ('MaskTokens', 'maskd')
    """

    module: Type[PreparedModule]
    method = ''
    file: Optional[PreparedFile] = None
    frozen: Any

    def __init__(self, tokens: Union[str, Sequence[str], None] = None,
                 loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        files = tokens if isinstance(tokens, (list, tuple)) and tokens else [tokens]
        if tokens is not None and not all(isinstance(one, str) and one for one in files):
            raise TypeError(f'`tokens` must be the path of a file, but got {tokens!r}; write the '
                            'file that mmkd.Prepare has written')
        self.tokens = tokens

    def setup(self, student_channels: int, teacher_channels: int, *,
              teacher_level: Optional[int] = None) -> None:
        """Read the module of one level from the file.

        Args:
            student_channels (int): Not used.
            teacher_channels (int): C of the teacher's level.
            teacher_level (int, optional): Number of the level at the teacher's point, from 0.
                Defaults to None, 0.

        Raises:
            FileNotFoundError: If the file does not exist.
            ValueError: If there is no file, or it is of another module, or of other channels.
        """
        name, kind = type(self).__name__, self.module.__name__
        if self.tokens is None:
            raise ValueError(self.missing())
        if not isinstance(self.tokens, str):
            raise ValueError(f'`tokens` of {name} is a list of {len(self.tokens)} files, one for '
                             'each member of a committee, but there is a single teacher; write '
                             'its file')
        self.file = read_prepared(self.tokens)
        about, level = self.file.about, teacher_level or 0
        if about['type'] != kind:
            raise ValueError(f'`{self.tokens}` contains {about["type"]}, but {name} needs {kind}; '
                             f'train one by `tools/train.py TEACHER.py --prepare {self.method}`')
        channels = about['channels']
        if level >= len(channels) or channels[level] != teacher_channels:
            raise ValueError(
                f'`{self.tokens}` was trained at `{about["on"]}` with {channels} channels by '
                f'level, but level {level} of the teacher has {teacher_channels} here; train one '
                'for this teacher and this point')
        module = self.module(**about['arguments'])
        module.setup(teacher_channels)
        state = self.file.states[level]
        for value in state.values():
            module.to(value.dtype)  # float64 is not rounded
            break
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(f'the weights in `{self.tokens}` do not fit {kind}: '
                             f'{" ".join(str(error).split())[:300]}; train the first stage '
                             'again') from error
        freeze(module)
        self.frozen = module

    @classmethod
    def missing(cls) -> str:
        """The message for a loss without a file: how it is made, and where it goes."""
        return (f'{cls.__name__} needs `tokens`, the file of its first stage: write it by `python '
                f'tools/train.py TEACHER.py --prepare {cls.method}`, which writes prepared.pth '
                "into its work dir; then write tokens='.../prepared.pth', or with --method "
                '--prepared .../prepared.pth')

    @property
    def file_digest(self) -> str:
        """SHA-256 of the file, '' before :meth:`setup`."""
        return '' if self.file is None else self.file.digest


def with_file(entry: Dict[str, Any], files: Sequence[str]) -> Dict[str, Any]:
    """An entry of a method with the file of its first stage.

    Args:
        entry (dict): An entry of ``distill``; one without a first stage is returned unchanged.
        files (Sequence[str]): Files of :class:`mmkd.Prepare`; the one of the loss's module is used.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If the loss needs a file, and none is of its module.
    """
    loss = LOSSES.classes.get(str(entry.get('type')).removeprefix('mmkd.'))
    if loss is None or not issubclass(loss, PreparedLoss) or entry.get('tokens'):
        return entry
    for path in files:
        if read_prepared(path).about['type'] == loss.module.__name__:
            return dict(entry, tokens=path)
    raise ValueError(loss.missing())


def freeze(module: nn.Module) -> None:
    """Turn parameters and buffers into buffers without gradient that are not saved.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> freeze(layer)
        >>> list(layer.state_dict()), list(layer.parameters()), layer(torch.zeros(1, 2)).shape
        ([], [], torch.Size([1, 1]))
    """
    for part in module.modules():
        for kept in (part._parameters, part._buffers):
            for name, value in list(kept.items()):
                if value is not None:
                    del kept[name]
                    part.register_buffer(name, value.detach().clone(), persistent=False)


def dice(masks: Tensor) -> Tensor:
    r"""Mean overlap of different masks, from 0 to 1.

    :math:`\frac{1}{N K (K - 1)} \sum_n \sum_{i \ne j} \frac{2 \, m_i \cdot m_j}{m_i \cdot m_i +
    m_j \cdot m_j}`

    Args:
        masks (Tensor): (N, K, *positions), 0 or more.

    Returns:
        Tensor: A scalar; 0 for a single mask.

    Example:
        >>> dice(torch.tensor([[[1., 0.], [0., 1.]]])).item(), dice(torch.ones(1, 2, 3)).item()
        (0.0, 1.0)
    """
    masks = masks.flatten(2)
    count, tokens = masks.shape[:2]
    if count == 0 or tokens < 2:
        return masks.sum() * 0
    products = masks @ masks.transpose(1, 2)
    squares = products.diagonal(dim1=1, dim2=2)
    total = squares.unsqueeze(1) + squares.unsqueeze(2)
    overlap = 2 * products / total.clamp(min=torch.finfo(total.dtype).tiny)
    different = 1 - torch.eye(tokens, dtype=overlap.dtype, device=overlap.device)
    return (overlap * different).sum() / (count * tokens * (tokens - 1))


def masks_of(tokens: Tensor, features: Tensor) -> Tensor:
    """Masks of receptive tokens: the sigmoid of their products with the features.

    Args:
        tokens (Tensor): (K, C).
        features (Tensor): (N, C, *positions).

    Returns:
        Tensor: (N, K, *positions).
    """
    masks = (tokens @ features.flatten(2)).sigmoid()
    return masks.unflatten(2, features.shape[2:]) if features.dim() > 2 else masks


def initial_tokens(*shape: Any) -> nn.Parameter:
    """Tokens as the authors of MasKD and FreeKD initialise them: normal, deviation 0.01."""
    return nn.Parameter(torch.randn(*shape) * 0.01)
