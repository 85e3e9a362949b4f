"""Watch the outputs of modules while a model runs, and leave no trace behind."""
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from itertools import count
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Tuple

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
            stack.enter_context(replaced_forward(
                model.get_submodule(path), partial(_watch, records[path], numbers)))
        yield records


@contextmanager
def replaced_forward(module: nn.Module, wrap: Callable[[Callable], Callable],
                     name: str = 'forward') -> Iterator[None]:
    """Have one instance run ``wrap(its forward)`` inside the block, and its own again after it.

    Args:
        module (nn.Module): The instance.
        wrap (Callable): Turns its method into another.
        name (str): The method. Defaults to 'forward'.
    """
    before = module.__dict__.get(name)
    module.__dict__[name] = wrap(getattr(module, name))
    try:
        yield
    finally:
        if before is None:
            del module.__dict__[name]
        else:
            module.__dict__[name] = before


def _watch(calls: List[Call], numbers: Iterator[int], forward: Callable) -> Callable:
    @wraps(forward)
    def watched_forward(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        calls.append(Call(args, output, next(numbers)))
        return output

    return watched_forward


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside the block, afterwards each module's own mode again."""
    modes = {module: module.training for module in model.modules()}
    for module in modes:  # `eval()` of mmdet's backbones freezes stages, which may be shared
        module.training = False
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
