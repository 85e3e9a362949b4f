"""How does a value of the student continue through its teacher?"""
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Tuple, Union

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from ..points.recorder import replaced_forward

TINY = 1e-6
"""Added to the standard deviation of a channel, in case its values are equal."""


class Misfit(ValueError):
    """A value of the student does not fit the place in the teacher, whatever the image is."""


class Replaced(NamedTuple):
    """Outputs of a module, to be replaced."""
    path: str
    """Path of the module."""
    values: List[Any]
    """What replaces its outputs, one per call."""
    rescale: Union[bool, str] = False
    """Whether a value gets the mean and standard deviation of the output, see :func:`rescaled`;
    'relu' for outputs of a ReLU, whose negative values become 0 again."""


@contextmanager
def continued(model: nn.Module, through: Optional[Replaced]) -> Iterator[None]:
    """Replace the outputs of a module inside the block, with gradients enabled.

    Args:
        model (nn.Module): The teacher, with parameters that need no gradient.
        through (Replaced, optional): The module, and what replaces its outputs. None: nothing is
            replaced.

    Raises:
        ValueError: If the number of calls differs, or the module's own output has another shape.
    """
    if through is None:
        yield
        return
    path, values, _ = through
    rest = iter(values)
    module = model.get_submodule(path)
    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        stack.enter_context(replaced_forward(module, partial(_next, through, rest)))
        yield
    left = sum(1 for _ in rest)
    if left:
        raise Misfit(f'`through`: `{path}` of the teacher was called {len(values) - left} times, '
                     f'but the module of the student {len(values)} times; write modules that are '
                     'called the same number of times')


def _next(through: Replaced, rest: Iterator[Any], forward: Callable) -> Callable:
    path, values, rescale = through

    @wraps(forward)
    def given(*args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():  # to check the shape, and for its mean; it costs little
            own = forward(*args, **kwargs)
        try:
            value = next(rest)
        except StopIteration:
            raise Misfit(f'`through`: `{path}` of the teacher is called more often than the module '
                         f'of the student, {len(values)} times; write modules that are called the '
                         'same number of times') from None
        shapes = [[tuple(one.shape) for one in tree_flatten(side)[0] if isinstance(one, Tensor)]
                  for side in (value, own)]
        if shapes[0] != shapes[1]:
            raise Misfit(
                f'`through`: the module of the student returns {_shown(shapes[0])}, but `{path}` '
                f'of the teacher {_shown(shapes[1])}; write modules whose outputs have the same '
                "shape, or use a teacher with the student's channels there")
        if not rescale:
            return value
        if not isinstance(value, Tensor) or value.dim() < 2:
            raise Misfit(f'`through`: `rescale={rescale!r}` needs a module that returns a map (N, '
                         f'C, H, W) or vectors (N, C), but `{path}` returns {type(value).__name__} '
                         f'{_shown(shapes[0])}; leave `rescale` out')
        scaled = rescaled(value, own)
        return scaled.relu() if rescale == 'relu' else scaled

    return given


def rescaled(value: Tensor, other: Tensor) -> Tensor:
    """Give each channel of a value the mean and the standard deviation of another tensor.

    Both are taken over all images and positions. The computation is in float32. The result has a
    gradient only for ``value``, also through its mean and deviation.

    Args:
        value (Tensor): (N, C, *positions).
        other (Tensor): The same shape.

    Example:
        >>> one, other = torch.randn(2, 3, 4, 4), 5 + 2 * torch.randn(2, 3, 4, 4)
        >>> torch.allclose(rescaled(one, other).mean((0, 2, 3)), other.mean((0, 2, 3)), atol=1e-4)
        True
    """
    dims = [dim for dim in range(value.dim()) if dim != 1]
    # Of a single value, the unbiased deviation is 0 / 0.
    unbiased = value.numel() > value.shape[1]
    dtype = torch.promote_types(value.dtype, torch.float32)
    (deviation, mean), (its_deviation, its_mean) = (
        torch.std_mean(one.to(dtype), dims, unbiased=unbiased, keepdim=True)
        for one in (value, other.detach()))
    factor = its_deviation / (deviation + TINY)
    return ((value.to(dtype) - mean) * factor + its_mean).to(value.dtype)


def _shown(shapes: List[Tuple[int, ...]]) -> str:
    return ', '.join('x'.join(map(str, shape)) for shape in shapes)
