"""Watch the outputs of modules while a model runs, and leave no trace behind."""
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from itertools import count
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Set, Tuple
from weakref import WeakKeyDictionary, WeakSet

from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map_only


class Call(NamedTuple):
    """One call of a watched module."""
    args: Tuple[Any, ...]
    """Its positional arguments."""
    output: Any
    order: int = 0
    """Number of calls that were recorded before it, of any module."""


CHANGED: 'WeakSet[nn.Module]' = WeakSet()
"""Modules whose output was changed in place after they had returned it, as by a ReLU behind a norm;
what they return is copied."""

SEEN: 'WeakKeyDictionary[nn.Module, Set[bool]]' = WeakKeyDictionary()
"""In which modes, training or not, modules have been recorded. The first time their output is
copied, because only afterwards it is known whether it was changed."""

Records = Dict[str, List[Call]]
"""The calls of one run, in order, by dotted module path."""


@contextmanager
def recording(model: nn.Module, paths: Iterable[str]) -> Iterator[Records]:
    """Collect what modules are given and return inside the block.

    ``forward`` of the module itself is wrapped, not hooked: mmseg calls ``head.forward(x)``, where
    hooks do not fire. Only this instance changes, because teacher and student are often of one
    class, and only inside the block, so that copies (EMA) and recomputation in backward
    (``with_cp``) are not recorded.

    A tensor that is changed in place after it was returned, as by an in-place ReLU behind a norm,
    is recorded as it was returned.

    Args:
        model (nn.Module): The model that is about to run.
        paths (Iterable[str]): Dotted module paths in it.

    Yields:
        dict[str, list[Call]]: By path, one entry per call, in order.
    """
    records: Records = {}
    numbers = count()
    returned: List[Tuple[nn.Module, Any, Tuple[int, ...]]] = []
    with ExitStack() as stack:
        for path in paths:
            records[path] = []
            module = model.get_submodule(path)
            stack.enter_context(replaced_forward(
                module, partial(_watch, records[path], numbers, module, returned)))
        yield records
    for module, output, versions in returned:
        SEEN.setdefault(module, set()).add(module.training)
        if _versions(output) != versions:
            CHANGED.add(module)


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


def _watch(calls: List[Call], numbers: Iterator[int], module: nn.Module,
           returned: List[Tuple[nn.Module, Any, Tuple[int, ...]]], forward: Callable) -> Callable:
    @wraps(forward)
    def watched_forward(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        kept = output
        if module in CHANGED:
            kept = tree_map_only(Tensor, Tensor.clone, output)
        elif module.training not in SEEN.get(module, ()):
            kept = tree_map_only(Tensor, Tensor.clone, output)
            returned.append((module, output, _versions(output)))
        calls.append(Call(args, kept, next(numbers)))
        return output

    return watched_forward


def _versions(output: Any) -> Tuple[int, ...]:
    return tuple(one._version for one in tree_flatten(output)[0]
                 if isinstance(one, Tensor) and not one.is_inference())


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
