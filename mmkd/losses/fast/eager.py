"""How are closed forms kept out of what torch.compile traces?"""
from functools import wraps
from typing import Any, Callable, TypeVar

import torch

Function = TypeVar('Function', bound=Callable[..., Any])


def eager(function: Function) -> Function:
    """Make ``torch.compile`` break the graph at a function and call it uncompiled.

    A closed form goes through the logits piece by piece. Traced, the loop would be unrolled: at 20
    pieces, that takes ten seconds for each shape, and torch 2.13 stops with an internal error where
    two losses with different temperatures use the same ``autograd.Function``.

    ``torch.compiler.disable`` imports the compiler, which takes a second, so it is called only
    where there is something to compile.

    Example:
        >>> eager(torch.add)(torch.ones(2), 1)
        tensor([2., 2.])
    """
    @wraps(function)
    def call(*args: Any) -> Any:
        if not torch.compiler.is_compiling():
            return function(*args)
        return torch.compiler.disable(function)(*args)

    return call  # type: ignore[return-value]
