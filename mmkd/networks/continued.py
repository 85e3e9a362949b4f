"""How does a value of the student continue through its teacher?"""
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import Any, Callable, Iterator, List, Optional, Tuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from ..points.recorder import replaced_forward


class Misfit(ValueError):
    """A value of the student does not fit the place in the teacher, whatever the image is."""


@contextmanager
def continued(model: nn.Module, through: Optional[Tuple[str, List[Any]]]) -> Iterator[None]:
    """Replace the outputs of a module inside the block, with gradients enabled.

    Args:
        model (nn.Module): The teacher, with parameters that need no gradient.
        through (tuple[str, list], optional): Path of the module, and its outputs, one per call.
            None: nothing is replaced.

    Raises:
        ValueError: If the number of calls differs, or the module's own output has another shape.
    """
    if through is None:
        yield
        return
    path, values = through
    rest = iter(values)
    module = model.get_submodule(path)
    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        stack.enter_context(replaced_forward(module, partial(_next, path, rest, len(values))))
        yield
    left = sum(1 for _ in rest)
    if left:
        raise Misfit(f'`through`: `{path}` of the teacher was called {len(values) - left} '
                         f'times, the module of the student {len(values)} times; name modules that '
                         'are called as often')


def _next(path: str, rest: Iterator[Any], count: int, forward: Callable) -> Callable:
    @wraps(forward)
    def given(*args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():  # to check the shape; it costs little
            own = forward(*args, **kwargs)
        try:
            value = next(rest)
        except StopIteration:
            raise Misfit(f'`through`: `{path}` of the teacher is called more often than the '
                             f'module of the student, {count} times; name modules that are called '
                             'as often') from None
        shapes = [[tuple(one.shape) for one in tree_flatten(side)[0] if isinstance(one, Tensor)]
                  for side in (value, own)]
        if shapes[0] != shapes[1]:
            raise Misfit(
                f'`through`: the module of the student returns {_shown(shapes[0])}, but `{path}` '
                f'of the teacher {_shown(shapes[1])}; name modules whose outputs have one shape, '
                "or give a teacher of the student's channels there")
        return value

    return given


def _shown(shapes: List[Tuple[int, ...]]) -> str:
    return ', '.join('x'.join(map(str, shape)) for shape in shapes)
