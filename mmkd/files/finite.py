"""Which weights of a checkpoint are infinite or not a number?"""
from typing import Any, Dict, Iterable, Iterator, List, Optional, Set, Tuple

import torch
from torch import Tensor

TRAINED = ('weight', 'bias', 'running_mean', 'running_var')
"""Suffixes of the names of tensors that are trained in nearly every model."""


def not_finite(checkpoint: Any, trained: Optional[Iterable[str]] = None) -> List[str]:
    """Names of the tensors with values that would break a run resumed from a checkpoint.

    Checks the student's weights, their moving average, connectors, partners, and the state of the
    optimizer. NaN always counts. Infinity counts only in trained tensors, because some buffers,
    such as attention masks, hold it on purpose.

    Args:
        checkpoint (Any): What a Runner saves or has saved.
        trained (Iterable[str], optional): Names of the student's parameters. Defaults to None,
            which recognizes them by the suffixes :data:`TRAINED`.

    Returns:
        list[str]: The names in the order of the checkpoint; [] if all are fine.
    """
    names = None if trained is None else set(trained)
    return [name for name, key, value in _tensors_of(checkpoint)
            if not _is_fine(value, key is None or _is_trained(key, names))]


def _tensors_of(checkpoint: Any) -> Iterator[Tuple[str, Optional[str], Tensor]]:
    """Name in the checkpoint, name in the model (None if all is trained), and tensor."""
    for key, value in _items(_in(checkpoint, 'state_dict')):
        yield key, key.removeprefix('module.'), value
    for key, value in _items(_in(checkpoint, 'ema_state_dict')):
        yield f'ema_state_dict.{key}', key.removeprefix('module.'), value
    for kind in ('connectors', 'networks'):
        for name, state in _items(_in(_in(checkpoint, 'mmkd'), kind), dict):
            for key, value in _items(state):
                yield f'mmkd.{kind}.{name}.{key}', key, value
    for number, state in _items(_in(_in(checkpoint, 'optimizer'), 'state'), dict):
        for key, value in _items(state):
            yield f'optimizer.state.{number}.{key}', None, value


def _in(holder: Any, key: str) -> Dict[Any, Any]:
    found = holder.get(key) if isinstance(holder, dict) else None
    return found if isinstance(found, dict) else {}


def _items(holder: Dict[Any, Any], kind: type = Tensor) -> Iterator[Tuple[str, Any]]:
    for key, value in holder.items():
        if isinstance(value, kind):
            yield str(key), value


def _is_trained(key: str, names: Optional[Set[str]]) -> bool:
    return key.endswith(TRAINED) if names is None else (
        key in names or key.endswith(('running_mean', 'running_var')))


def _is_fine(value: Tensor, is_trained: bool) -> bool:
    if not (value.is_floating_point() or value.is_complex()) or value.is_meta or (
            value.layout != torch.strided) or value.is_quantized or not value.numel():
        return True
    # A finite sum means that all values are finite. The sum may overflow, so check them all then.
    if torch.isfinite(value.sum(dtype=None if value.is_complex() else torch.float64)):
        return True
    return bool(value.isfinite().all() if is_trained else not value.isnan().any())
