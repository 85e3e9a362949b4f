"""Return values of losses: a scalar per level, or named parts."""
from typing import Any, Dict, List, Sequence, Tuple

from torch import Tensor

Parts = Dict[str, List[Tensor]]
"""Scalars by name of the part ('' for a loss without parts): one per level, or one for all."""


def parts_of(values: Sequence[Any], name: str, kind: str, share: float) -> Parts:
    """Group the return values of a loss, one per level, by part.

    Raises:
        TypeError: If a value is not a scalar or a dict of scalars.
    """
    parts: Parts = {}
    for value in values:
        named = value if isinstance(value, dict) else {'': value}
        if not named or not all(isinstance(key, str) and isinstance(one, Tensor) and one.dim() == 0
                                for key, one in named.items()):
            raise TypeError(f'`{name}`: {kind} must return a scalar, or a dict of named scalars, '
                            f'for each of {len(values)} levels, but returned '
                            f'{shown_losses(value)}; return a scalar from its `compare`')
        for key, one in named.items():
            parts.setdefault(key, []).append(one if share == 1 else share * one)
    return parts


def shown_losses(losses: Any) -> str:
    """Type and shape of the return value of a loss, for messages."""
    if isinstance(losses, dict):
        return f'{{{", ".join(f"{key!r}: {shown_losses(one)}" for key, one in losses.items())}}}'
    if isinstance(losses, list):
        return f'[{", ".join(map(shown_losses, losses))}]'
    shape = f' of shape {tuple(losses.shape)}' if isinstance(losses, Tensor) else ''
    return f'{type(losses).__name__}{shape}'


def shown_shapes(shapes: Sequence[Tuple[int, ...]]) -> str:
    """Shapes of levels, for messages: '1x16x8x8, 1x16x4x4'."""
    return ', '.join('x'.join(map(str, shape)) for shape in shapes)
