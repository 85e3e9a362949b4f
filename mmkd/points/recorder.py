"""Recording of the calls of modules while a model runs."""
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from itertools import count
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Tuple
from weakref import WeakSet

from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map_only

READING = 3
"""Number of the way in which models are read at their points. A change of the recorder or of a
family after which a point gives other values for the same weights and image must raise it, because
a cache of the former number is refused then. The first edition had no number; its values may have
been changed in place after a module had returned them."""


class Call(NamedTuple):
    """One call of a recorded module."""
    args: Tuple[Any, ...]
    """Its positional arguments."""
    output: Any
    order: int = 0
    """Number of earlier calls of all recorded modules."""
    versions: Tuple[int, ...] = ()
    """Version (count of in-place writes) of each tensor of the output when it was returned."""
    kwargs: Dict[str, Any] = {}
    """Its keyword arguments."""


CHANGED: 'WeakSet[nn.Module]' = WeakSet()
"""Modules with outputs that are changed in place later, for instance by a ReLU after a norm. Their
outputs are copied when they are recorded."""

Records = Dict[str, List[Call]]
"""The calls of one run, in order, by dotted module path."""


@contextmanager
def recording(model: nn.Module, paths: Iterable[str]) -> Iterator[Records]:
    """Record arguments and outputs of modules inside the block.

    ``forward`` is wrapped instead of a hook, because mmseg calls ``head.forward(x)``, which does
    not call hooks. Only the instance is wrapped, because teacher and student often have the same
    class, and only inside the block, so that copies (EMA) and recomputation in backward
    (``with_cp``) are not recorded.

    A tensor that is changed in place after it was returned, for instance by an in-place ReLU after
    a norm, is found at the end of the block, and copied in every later block. mmkd records a blank
    image before training, so no step compares a changed value.

    Args:
        model (nn.Module): The model.
        paths (Iterable[str]): Dotted paths of its modules.

    Yields:
        dict[str, list[Call]]: One entry per call, in order, by path.

    Raises:
        ValueError: If a value is changed in place in training, but was not on the blank image.
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
            raise ValueError(f'the output of `{path}` of the {type(model).__name__} is changed in '
                             'place later in training, so another value would be compared; choose '
                             'the module that changes it, or one before it')


@contextmanager
def replaced_forward(module: nn.Module, wrap: Callable[[Callable], Callable],
                     name: str = 'forward') -> Iterator[None]:
    """Replace ``forward`` of an instance by ``wrap(forward)`` inside the block.

    Args:
        module (nn.Module): The instance.
        wrap (Callable): Returns the new method for the old one.
        name (str): Name of the method. Defaults to 'forward'.
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
        # Lists are copied: some heads put other tensors into them afterwards.
        kept = tree_map_only(Tensor, Tensor.clone if module in CHANGED else _same, output)
        calls.append(Call(args, kept, next(numbers), _versions(kept), kwargs))
        return output

    return watched_forward


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _versions(output: Any) -> Tuple[int, ...]:
    return tuple(one._version for one in tree_flatten(output)[0]
                 if isinstance(one, Tensor) and not one.is_inference())


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Set eval mode inside the block, and restore the mode of each module after it."""
    modes = {module: module.training for module in model.modules()}
    for module in modes:  # `eval()` of mmdet's backbones freezes stages that may be shared
        module.training = False
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
