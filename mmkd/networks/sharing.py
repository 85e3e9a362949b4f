"""Which modules do a partner and the student share, and how are these computed only once?"""
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Callable, Dict, Iterable, Iterator, List, Sequence, Tuple

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ..points.probe import on_blank
from ..points.recorder import Records, evaluating, recording, replaced_forward

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)


def share(model: nn.Module, student: nn.Module, shared: Sequence[str],
          separate_norm: bool) -> List[nn.Module]:
    """Replace modules of a partner by those of the student.

    Args:
        model (nn.Module): The partner; changed in place.
        student (nn.Module): The student.
        shared (Sequence[str]): See :class:`mmkd.networks.Partner`.
        separate_norm (bool): See :class:`mmkd.networks.Partner`.

    Returns:
        list[nn.Module]: The modules of the student that are now shared.

    Raises:
        ValueError: If a path does not exist on both sides, or the modules differ.
    """
    modules: List[nn.Module] = []
    for path in list(shared) if separate_norm else _with_those_before(model, shared):
        mine, theirs = (_module(side, path, name) for side, name in
                        ((model, 'partner'), (student, 'student')))
        shapes = [{key: tuple(value.shape) for key, value in one.state_dict().items()}
                  for one in (mine, theirs)]
        if type(mine) is not type(theirs) or shapes[0] != shapes[1]:
            raise ValueError(
                f'`shared` contains `{path}`, which is {_described(mine, *shapes)} in the partner '
                f'and {_described(theirs, *shapes[::-1])} in the student; write modules of the '
                'same type and shapes')
        if not separate_norm:
            _replace(model, path, theirs)
            modules.append(theirs)
            continue
        for inner, module in list(theirs.named_modules()):
            is_leaf = not any(True for _ in module.children())
            if is_leaf and any(True for _ in module.parameters()) and not isinstance(
                    module, NORMS):
                _replace(model, '.'.join(filter(None, (path, inner))), module)
                modules.append(module)
    return modules


def _with_those_before(model: nn.Module, shared: Sequence[str]) -> List[str]:
    """The shared paths, and the paths of modules that run before them inside the same parents."""
    paths = list(shared)
    orders: Dict[str, List[str]] = {}
    for path in shared:
        parent, _, name = path.rpartition('.')
        while parent:
            if parent not in orders:
                _module(model, path, 'partner')
                orders[parent] = _order(model, parent)
            order = orders[parent]
            for below in order[:order.index(name)] if name in order else ():
                if f'{parent}.{below}' not in paths:
                    paths.append(f'{parent}.{below}')
            parent, _, name = parent.rpartition('.')
    added = paths[len(shared):]
    if added:
        print_log('Also shared with the student, because they run before shared modules: '
                  f'{", ".join(added)}', 'current')
    return paths


def _order(model: nn.Module, parent: str) -> List[str]:
    """Children of a module in the order of their calls."""
    names = [name for name, _ in model.get_submodule(parent).named_children()]

    def run(blank: Tensor) -> Records:
        with torch.no_grad(), evaluating(model), recording(
                model, [f'{parent}.{name}' for name in names]) as records:
            model.extract_feat(blank)  # type: ignore[operator]
        return records

    records = on_blank(model, run)
    first = {path.rpartition('.')[2]: calls[0].order for path, calls in records.items()
             if calls}
    return sorted(first, key=lambda name: first[name])


@contextmanager
def computed_once(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Let modules return their previous output if they are called with the same tensor again,
    inside the block.

    Raises:
        ValueError: If an output was changed in place by a module that is not shared.
    """
    changed: Dict[int, nn.Module] = {}
    with ExitStack() as stack:
        for module in set(modules):
            stack.enter_context(replaced_forward(module, partial(_remembering, module, changed)))
        yield
    for module in changed.values():
        raise ValueError(
            f'the student has changed the output of a shared {type(module).__name__} in place; '
            'also share the module after it, for instance `backbone.relu` with `backbone.bn1`, or '
            'the next stage')


def _remembering(module: nn.Module, changed: Dict[int, nn.Module], forward: Callable) -> Callable:
    last: List[Any] = []

    def remembered(*args: Any, **kwargs: Any) -> Any:
        if last and not kwargs and len(args) == len(last[0]) and all(
                one is other for one, other in zip(args, last[0])):
            for one in args:  # changed by a shared module, which is correct
                changed.pop(id(one), None)
            if isinstance(last[1], Tensor) and last[1]._version != last[2]:
                changed[id(last[1])] = module
            return last[1]
        output = forward(*args, **kwargs)
        last[:] = [args, output, getattr(output, '_version', None)]
        return output

    return remembered


def _described(module: nn.Module, own: Dict[str, Tuple[int, ...]],
                other: Dict[str, Tuple[int, ...]]) -> str:
    differ = next((f'`{key}` of {"x".join(map(str, shape)) or "one number"}'
                   for key, shape in own.items() if other.get(key, shape) != shape),
                  f'{len(own)} tensors')
    return f'a {type(module).__name__} with {differ}'


def _module(model: nn.Module, path: str, name: str) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError as error:
        raise ValueError(f'`shared` contains `{path}`, but the {name} ({type(model).__name__}) has '
                         'no such module; write a path inside of '
                         f'{", ".join(dict(model.named_children()))}') from error


def _replace(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition('.')
    setattr(model.get_submodule(parent), name, module)
