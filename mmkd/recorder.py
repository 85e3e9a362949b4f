"""Watch the outputs of modules while a model runs, and leave no trace behind."""
from contextlib import ExitStack, contextmanager
from functools import wraps
from itertools import count
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Tuple

from torch import nn


class Call(NamedTuple):
    """One call of a watched module."""
    args: Tuple[Any, ...]
    """Its positional arguments."""
    output: Any
    order: int = 0
    """Number of calls that were recorded before it, of any module."""


Records = Dict[str, List[Call]]
"""The calls of one run, in order, by dotted module path."""


@contextmanager
def recording(model: nn.Module, paths: Iterable[str]) -> Iterator[Records]:
    """Collect what modules are given and return inside the block.

    ``forward`` of the module itself is wrapped, not hooked: mmseg calls ``head.forward(x)``, where
    hooks do not fire. Only this instance changes, because teacher and student are often of one
    class, and only inside the block, so that copies (EMA) and recomputation in backward
    (``with_cp``) are not recorded.

    Args:
        model (nn.Module): The model that is about to run.
        paths (Iterable[str]): Dotted module paths in it.

    Yields:
        dict[str, list[Call]]: By path, one entry per call, in order.
    """
    records: Records = {}
    numbers = count()
    with ExitStack() as stack:
        for path in paths:
            records[path] = []
            stack.enter_context(_watched(model.get_submodule(path), records[path], numbers))
        yield records


@contextmanager
def _watched(module: nn.Module, calls: List[Call], numbers: Iterator[int]) -> Iterator[None]:
    before = module.__dict__.get('forward')
    forward = module.forward

    @wraps(forward)
    def watched_forward(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        calls.append(Call(args, output, next(numbers)))
        return output

    module.forward = watched_forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before  # type: ignore[method-assign]
