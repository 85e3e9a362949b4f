"""Do the values that a Runner reads from a checkpoint have the expected types?"""
from typing import Any, Callable, Dict, Iterator, List, Tuple

import numpy as np
from mmengine.logging import HistoryBuffer
from torch import Tensor

from .history import KEY, checked

REMEDY = '; start from its weights by `load_from`, without `resume`'


def check_kinds(checkpoint: Dict[str, Any]) -> None:
    """Check the types of the values that a Runner reads from a checkpoint.

    Raises:
        ValueError: If a value is missing or has another type; the message names the key.
    """
    meta = checkpoint.get('meta')
    if not isinstance(meta, dict) or not all(key in meta for key in ('epoch', 'iter')):
        raise ValueError('it has no `epoch` and `iter` in `meta`, where its training '
                         f'stopped{REMEDY}')
    for key in ('message_hub', 'optimizer'):
        if not isinstance(checkpoint.get(key), dict):
            raise ValueError(f'it has no `{key}` (it may be a published one){REMEDY}')
    if KEY in meta:
        checked(meta[KEY])
    for name, found, expected in wrong_kinds(checkpoint):
        raise ValueError(f'{name} is {shown(found)}, but must be {expected}; the file was changed '
                         f'after it was saved; resume from another one{REMEDY}')


def wrong_kinds(checkpoint: Dict[str, Any]) -> Iterator[Tuple[str, Any, str]]:
    """Find values in a checkpoint of another type than a Runner writes.

    Yields:
        tuple[str, Any, str]: The key, the value, and what was expected.
    """
    meta, hub = checkpoint['meta'], checkpoint['message_hub']
    for key in ('epoch', 'iter'):
        if not _is_count(meta[key]):
            yield f"`meta['{key}']`", meta[key], 'a whole number of 0 or more'
    if not (meta.get('seed') is None or _is_count(meta['seed'])):
        yield "`meta['seed']`", meta['seed'], 'a whole number of 0 or more'
    beside = checkpoint.get(KEY, {})
    if not isinstance(beside, dict):
        yield f'`{KEY}`', beside, 'a dict'
    else:
        for part in ('connectors', 'networks'):
            if not isinstance(beside.get(part, {}), dict):
                yield f"`{KEY}['{part}']`", beside[part], 'a dict'
    ema = checkpoint.get('ema_state_dict', {})
    if not isinstance(ema, dict):
        yield '`ema_state_dict`', ema, 'a dict of tensors'
    else:
        for key, value in ema.items():
            if not isinstance(value, Tensor):
                yield f"`ema_state_dict['{key}']`", value, 'a tensor'
            elif key == 'steps' and (value.numel() != 1 or value.is_floating_point()):
                yield "`ema_state_dict['steps']`", value, 'one whole number'
    for part in ('log_scalars', 'runtime_info', 'resumed_keys'):
        if not isinstance(hub.get(part), dict):
            yield f"`message_hub['{part}']`", hub.get(part), 'a dict'
            return
    for key, value in hub['log_scalars'].items():
        if isinstance(value, HistoryBuffer) and not _is_history(value):
            yield f"`message_hub['log_scalars']['{key}']`", value, 'a history of numbers'
    for key, value in hub['resumed_keys'].items():
        if not isinstance(value, (bool, np.bool_)):
            yield f"`message_hub['resumed_keys']['{key}']`", value, 'True or False'
    for key, value in hub['runtime_info'].items():
        for start, is_fine, expected in INFO:
            if str(key).startswith(start) and not is_fine(value):
                yield f"`message_hub['runtime_info']['{key}']`", value, expected
    for number, state in enumerate(listed(checkpoint.get('param_schedulers', []))):
        if not isinstance(state, dict):
            yield f"`param_schedulers[{number}]`", state, 'a dict'


def _is_count(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and int(value) >= 0


def is_number(value: Any) -> bool:
    """Whether a value is a single number: of Python, of NumPy, or a tensor without dimensions."""
    if isinstance(value, (Tensor, np.ndarray)):
        return value.ndim == 0
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _is_history(value: HistoryBuffer) -> bool:
    parts = [getattr(value, name, None) for name in ('_log_history', '_count_history')]
    return all(isinstance(one, np.ndarray) and one.ndim == 1 and one.dtype.kind in 'iuf'
               for one in parts) and len(parts[0]) == len(parts[1]) and _is_count(  # type: ignore
                   getattr(value, 'max_length', None))


INFO: List[Tuple[str, Callable[[Any], bool], str]] = [
    ('best_score', is_number, 'a number'),
    ('best_ckpt', lambda value: isinstance(value, str), 'a path'),
    ('last_ckpt', lambda value: isinstance(value, str), 'a path'),
    ('keep_ckpt_ids', lambda value: isinstance(value, list) and all(map(_is_count, value)),
     'a list of whole numbers'),
]
"""Values that MMEngine's hooks read from the message hub: prefix of the key, check, expectation."""


def listed(value: Any) -> List[Any]:
    """Schedulers of one optimizer, or of several optimizers by name, as one list."""
    if isinstance(value, dict):
        return [one for states in value.values() for one in listed(states)]
    return list(value) if isinstance(value, (list, tuple)) else [value]


def shown(value: Any) -> str:
    """Describe a value and its type, and the shape of a tensor, for a message."""
    if isinstance(value, Tensor):
        return f'a tensor {tuple(value.shape)} of {value.dtype}'
    return f'{value!r:.60} ({type(value).__name__})'
