"""Which modules have no part in what a network says at a point, and how are they left out?

A dense head predicts boxes beside the classes, a backbone goes on behind the stage that is
compared. Which modules these are is not written down for every head; it is found out, once, on a
small image of noise: what the answer's gradient does not reach, and what can be turned to NaN
without changing a bit of the answer, has no part in it.
"""
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import (
    Any,
    Callable,
    Dict,
    Hashable,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Set,
    Tuple,
)

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..points.recorder import replaced_forward

Outputs = Dict[Hashable, Any]
"""Zero outputs, keyed by input shapes."""


Say = Callable[[int], List[Tensor]]
"""Runs a network on one of two images of noise, 0 or 1, and returns what it says."""


class Parts(NamedTuple):
    """Of the modules of a network, by dotted path."""
    needed: Set[str]
    """Those without which it would not say what it says, and those around them."""
    idle: Set[str]
    """Those that were called and have no part in it."""


class Opaque(Exception):
    """Something that holds no tensors that could be replaced."""


def parts_of(model: nn.Module, say: Say) -> Optional[Parts]:
    """Find out what a network needs to say what it says.

    Args:
        model (nn.Module): In eval mode.
        say (Callable): Runs it on one of two images of one size.

    Returns:
        Parts | None: None where it cannot be told, so that all of it must run.
    """
    try:
        with torch.no_grad():
            other = say(1)
        plain, reached, called = _reached(model, say)
        needed = with_ancestors(reached | _rarely_called(model, with_ancestors(reached), called))
        idle = outermost(called - needed)
        if idle and not _is_unchanged(model, say, [plain, other], idle):
            # What is read off without a gradient, box centres for instance.
            wrong = [one for one in idle if not _is_unchanged(model, say, [plain, other], [one])]
            needed |= with_ancestors(path for path in called for one in wrong
                                     if f'{path}.'.startswith(f'{one}.'))
            idle = outermost(called - needed)
            if idle and not _is_unchanged(model, say, [plain, other], idle):
                raise ValueError('modules that can be left out one by one cannot be left out '
                                 'together')
        return Parts(needed, called - needed)
    except Exception as error:  # whatever the network's own code raises when it is looked into
        print_log(f'{type(model).__name__} runs as a whole, because it could not be found out '
                  f'what it needs: {type(error).__name__}: {error}', 'current')
        return None


@contextmanager
def standing_in(model: nn.Module, idle: Iterable[str],
                outputs: Dict[str, Outputs]) -> Iterator[None]:
    """Inside the block, modules return zeros of the right shape.

    The shape is known from the first call with inputs of these shapes, which does run. The zeros
    take no memory.

    Args:
        model (nn.Module): The network.
        idle (Iterable[str]): Dotted paths of the modules.
        outputs (dict[str, dict]): What is known from former calls, by path; filled as they come.
    """
    with ExitStack() as stack:
        for path in outermost(idle):
            stack.enter_context(replaced_forward(model.get_submodule(path), partial(
                _stand_in, outputs.setdefault(path, {}))))
        yield


def left_out(parts: Iterable[Optional[Parts]]) -> Set[str]:
    """What none of several answers needs, and one of them would call; nothing if one needs all."""
    found = list(parts)
    known = [one for one in found if one is not None]
    if len(known) < len(found):
        return set()
    return set().union(*(one.idle for one in known)) - set().union(*(one.needed for one in known))


def with_ancestors(paths: Iterable[str]) -> Set[str]:
    """Modules, and all those around them."""
    found = {''}
    for path in paths:
        names = path.split('.')
        found |= {'.'.join(names[:end + 1]) for end in range(len(names))}
    return found


def outermost(paths: Iterable[str]) -> List[str]:
    """Those that are inside of no other."""
    found: List[str] = []
    for path in sorted(paths, key=lambda path: path.count('.')):
        names = path.split('.')
        if not any('.'.join(names[:end]) in found for end in range(1, len(names))):
            found.append(path)
    return found


def _reached(model: nn.Module, say: Say) -> Tuple[List[Tensor], Set[str], Set[str]]:
    """The answer; modules whose outputs its gradient reaches or might, and all that were called."""
    zeros: Dict[str, Tensor] = {}
    opaque: Set[str] = set()

    def wrap(path: str) -> Callable[[Callable], Callable]:
        def wrapped(forward: Callable) -> Callable:
            @wraps(forward)
            def tracked(*args: Any, **kwargs: Any) -> Any:
                output = forward(*args, **kwargs)

                def add_zero(tensor: Tensor) -> Tensor:
                    if not tensor.is_floating_point():
                        raise Opaque
                    zero = zeros.setdefault(path, torch.zeros(
                        (), device=tensor.device, requires_grad=True))
                    return tensor + zero.to(tensor.dtype)

                try:
                    return mapped(add_zero, output)
                except Opaque:
                    opaque.add(path)
                    return output

            return tracked

        return wrapped

    with torch.enable_grad(), ExitStack() as stack:
        for path, module in model.named_modules():
            if getattr(module, 'with_cp', False) is True:  # it would be computed twice
                stack.enter_context(_without_checkpointing(module))
            if path:
                stack.enter_context(replaced_forward(module, wrap(path)))
        said = say(0)
        total = torch.stack([tensor.double().sum() for tensor in said]).sum()
        gradients = torch.autograd.grad(total, list(zeros.values()), allow_unused=True)
    reached = {path for path, gradient in zip(zeros, gradients) if gradient is not None}
    return [tensor.detach() for tensor in said], reached | opaque, {*zeros, *opaque}


def _rarely_called(model: nn.Module, needed: Set[str], called: Set[str]) -> Set[str]:
    """Modules that were not called, but perhaps will be by a needed one that was: a RoI extractor
    calls those of its layers that there are RoIs for."""
    rare = set()
    for path, _ in model.named_modules():
        names = path.split('.')
        around = [one for one in ('.'.join(names[:end]) for end in range(1, len(names)))
                  if one in called]
        if path not in called and around and around[-1] in needed:
            rare.add(path)
    return rare


@contextmanager
def _without_checkpointing(module: Any) -> Iterator[None]:
    module.with_cp = False
    try:
        yield
    finally:
        module.with_cp = True


def _is_unchanged(model: nn.Module, say: Say, plain: List[List[Tensor]], idle: List[str]) -> bool:
    """Whether every bit is the same where modules return NaN, and where they return zeros.

    The zeros on both images: what a module leaves behind from the first would show on the second.
    """
    outputs: List[Outputs] = [{} for _ in idle]

    def to_nan(number: int, forward: Callable) -> Callable:
        first = _stand_in(outputs[number], forward)  # it remembers the shapes
        return wraps(forward)(lambda *args, **kwargs: mapped(
            lambda tensor: torch.full_like(tensor, float('nan')), first(*args, **kwargs)))

    def to_zero(number: int, forward: Callable) -> Callable:
        return _stand_in(outputs[number], forward)

    for way, image in ((to_nan, 0), (to_zero, 0), (to_zero, 1)):
        with torch.no_grad(), ExitStack() as stack:
            for number, path in enumerate(idle):
                stack.enter_context(replaced_forward(
                    model.get_submodule(path), partial(way, number)))
            try:
                said = say(image)
            except Exception:  # it cannot do without
                return False
        if len(said) != len(plain[image]) or not all(map(torch.equal, said, plain[image])):
            return False
    return True


def _stand_in(known: Outputs, forward: Callable) -> Callable:
    @wraps(forward)
    def stand_in(*args: Any, **kwargs: Any) -> Any:
        try:
            given = _described((args, kwargs))
        except Opaque:
            return forward(*args, **kwargs)
        if given not in known:
            output = forward(*args, **kwargs)
            known[given] = mapped(lambda one: one.new_zeros(()).expand(one.shape), output)
            return output
        return mapped(lambda one: one, known[given])  # a list of its own, which may be changed

    return stand_in


def _described(value: Any) -> Hashable:
    """What a call's outputs depend on but for the numbers."""
    if isinstance(value, Tensor):
        return (tuple(value.shape), value.dtype, value.device, _is_autocast(value.device.type))
    if isinstance(value, (list, tuple)):
        return (type(value), *map(_described, value))
    if isinstance(value, dict):
        return tuple((key, _described(one)) for key, one in value.items())
    if value is None or isinstance(value, (bool, int, float, str)):
        return (type(value), value)
    raise Opaque


def _is_autocast(kind: str) -> bool:
    try:
        return torch.is_autocast_enabled(kind)
    except TypeError:  # before torch 2.4
        return torch.is_autocast_cpu_enabled() if kind == 'cpu' else torch.is_autocast_enabled()


def mapped(change: Callable[[Tensor], Any], value: Any) -> Any:
    """Change every tensor in nested lists, tuples and dicts.

    Raises:
        Opaque: If there is something else.
    """
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return type(value)((key, mapped(change, one)) for key, one in value.items())
    if isinstance(value, (list, tuple)):
        items = [mapped(change, one) for one in value]
        return type(value)(*items) if hasattr(value, '_fields') else type(value)(items)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise Opaque
