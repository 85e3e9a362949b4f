"""Watch the outputs of modules while a model runs, and leave no trace behind."""
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from itertools import count
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Tuple
from weakref import WeakSet

from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map_only

READING = 2
"""Number of the way in which models are read at their points. A change of the recorder or of a
family after which a point gives other values for the same weights and image must raise it, because
a cache of the former number is refused then. The first edition had no number; its values may have
been changed in place after a module had returned them."""


class Call(NamedTuple):
    """One call of a watched module."""
    args: Tuple[Any, ...]
    """Its positional arguments."""
    output: Any
    order: int = 0
    """Number of calls that were recorded before it, of any module."""
    versions: Tuple[int, ...] = ()
    """How often torch had written into each tensor of the output when it was returned."""
    kwargs: Dict[str, Any] = {}
    """Its keyword arguments."""


CHANGED: 'WeakSet[nn.Module]' = WeakSet()
"""Modules whose output was changed in place after they had returned it, as by a ReLU behind a norm;
what they return is copied from then on."""

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
    is found when the block ends, and copied in every later block. mmkd records a blank image before
    training, so no step compares a changed value.

    Args:
        model (nn.Module): The model that is about to run.
        paths (Iterable[str]): Dotted module paths in it.

    Yields:
        dict[str, list[Call]]: By path, one entry per call, in order.

    Raises:
        ValueError: If a value is changed in place in training, and was not on the blank image.
    """
    records: Records = {}
    numbers = count()
    with ExitStack() as stack:
        for path in paths:
            records[path] = []
            module = model.get_submodule(path)
            stack.enter_context(replaced_forward(
                module, partial(_watch, records[path], numbers, module)))
        yield records
    for path, calls in records.items():
        module = model.get_submodule(path)
        if module in CHANGED or all(_versions(call.output) == call.versions for call in calls):
            continue
        CHANGED.add(module)
        if module.training:
            raise ValueError(f'what `{path}` of the {type(model).__name__} returns is changed in '
                             'place afterwards, in training alone, so that another value would be '
                             'compared; name the module that changes it, or one before')


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
           forward: Callable) -> Callable:
    @wraps(forward)
    def watched_forward(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        kept = tree_map_only(Tensor, Tensor.clone, output) if module in CHANGED else output
        calls.append(Call(args, kept, next(numbers), _versions(kept), kwargs))
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
