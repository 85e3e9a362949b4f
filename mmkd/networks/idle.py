"""Which modules do not contribute to the answer of a network at a point, and how are they skipped?

For instance, the box branch of a dense head does not contribute to its class logits, and the later
stages of a backbone do not contribute to an earlier one. Such modules are not listed for every
head, but found once, on a small image of noise: a module does not contribute if no gradient of the
answer reaches it, and if NaN in place of its output does not change any bit of the answer.
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
"""Runs a network on one of two images of noise, 0 or 1, and returns its answer."""


class Parts(NamedTuple):
    """Dotted paths of modules of a network."""
    needed: Set[str]
    """Modules that contribute to the answer, and their ancestors."""
    idle: Set[str]
    """Modules that were called and do not contribute to the answer."""


class Opaque(Exception):
    """A value of a type whose tensors cannot be replaced."""


def parts_of(model: nn.Module, say: Say) -> Optional[Parts]:
    """Find the modules that contribute to the answer of a network.

    Args:
        model (nn.Module): The network, in eval mode.
        say (Callable): Runs it on one of two images of equal size.

    Returns:
        Parts | None: The modules; None if they cannot be found, so that all modules must run.
    """
    try:
        with torch.no_grad():
            other = say(1)
        plain, reached, called = _reached(model, say)
        needed = with_ancestors(reached | _rarely_called(model, with_ancestors(reached), called))
        idle = outermost(called - needed)
        if idle and not _is_unchanged(model, say, [plain, other], idle):
            # Some modules contribute without a gradient, for instance by box centres.
            wrong = [one for one in idle if not _is_unchanged(model, say, [plain, other], [one])]
            needed |= with_ancestors(path for path in called for one in wrong
                                     if f'{path}.'.startswith(f'{one}.'))
            idle = outermost(called - needed)
            if idle and not _is_unchanged(model, say, [plain, other], idle):
                raise ValueError('modules that can be left out one by one cannot be left out '
                                 'together')
        return Parts(needed, called - needed)
    except Exception as error:  # from the code of the network
        print_log(f'{type(model).__name__} runs all its modules, because those that are not needed '
                  f'could not be determined: {type(error).__name__}: {error}', 'current')
        return None


@contextmanager
def standing_in(model: nn.Module, idle: Iterable[str],
                outputs: Dict[str, Outputs]) -> Iterator[None]:
    """Let modules return zeros of the right shape inside the block.

    The shape comes from the first call with inputs of these shapes, in which the module runs. The
    zeros take no memory.

    Args:
        model (nn.Module): The network.
        idle (Iterable[str]): Dotted paths of the modules.
        outputs (dict[str, dict]): Zero outputs of earlier calls, by path; filled by each new call.
    """
    with ExitStack() as stack:
        for path in outermost(idle):
            stack.enter_context(replaced_forward(model.get_submodule(path), partial(
                _stand_in, outputs.setdefault(path, {}))))
        yield


def left_out(parts: Iterable[Optional[Parts]]) -> Set[str]:
    """Modules that no answer needs; an empty set if the parts of one answer are unknown."""
    found = list(parts)
    known = [one for one in found if one is not None]
    if len(known) < len(found):
        return set()
    return set().union(*(one.idle for one in known)) - set().union(*(one.needed for one in known))


def with_ancestors(paths: Iterable[str]) -> Set[str]:
    """Modules and their ancestors."""
    found = {''}
    for path in paths:
        names = path.split('.')
        found |= {'.'.join(names[:end + 1]) for end in range(len(names))}
    return found


def outermost(paths: Iterable[str]) -> List[str]:
    """Modules that are not inside of another one of these."""
    found: List[str] = []
    for path in sorted(paths, key=lambda path: path.count('.')):
        names = path.split('.')
        if not any('.'.join(names[:end]) in found for end in range(1, len(names))):
            found.append(path)
    return found


def _reached(model: nn.Module, say: Say) -> Tuple[List[Tensor], Set[str], Set[str]]:
    """The answer; modules with outputs that its gradient reaches or may reach; all called ones."""
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
            if getattr(module, 'with_cp', False) is True:  # its forward would run twice
                stack.enter_context(_without_checkpointing(module))
            if path:
                stack.enter_context(replaced_forward(module, wrap(path)))
        said = say(0)
        total = torch.stack([tensor.double().sum() for tensor in said]).sum()
        gradients = torch.autograd.grad(total, list(zeros.values()), allow_unused=True)
    reached = {path for path, gradient in zip(zeros, gradients) if gradient is not None}
    return [tensor.detach() for tensor in said], reached | opaque, {*zeros, *opaque}


def _rarely_called(model: nn.Module, needed: Set[str], called: Set[str]) -> Set[str]:
    """Modules that were not called, but are children of a needed module that was, and may be called
    for another input: a RoI extractor calls only its layers with RoIs."""
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
    """Whether the answer is bitwise equal if modules return NaN, and if they return zeros.

    Zeros are tested on both images: a state that a module keeps from the first would show on the
    second.
    """
    outputs: List[Outputs] = [{} for _ in idle]

    def to_nan(number: int, forward: Callable) -> Callable:
        first = _stand_in(outputs[number], forward)  # it stores the shapes
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
            except Exception:  # the network needs the output
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
        return mapped(lambda one: one, known[given])  # a new list, which the caller may change

    return stand_in


def _described(value: Any) -> Hashable:
    """Everything that the shapes of a call's outputs depend on."""
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
        Opaque: If there is a value of another type.
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
