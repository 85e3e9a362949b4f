"""Do all processes of a run start with the same config and weights?"""
import hashlib
import os
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, Mapping, Tuple

import torch
from mmengine.dist import all_gather_object, get_world_size
from mmengine.model import is_model_wrapper

PARTS = ('model', 'custom_hooks', 'default_hooks', 'train_dataloader', 'train_cfg', 'optim_wrapper',
         'param_scheduler', 'auto_scale_lr', 'randomness', 'resume', 'load_from')
"""Keys of a config that must be the same in all processes."""

SHOWN = 5


def check_alike(own: Callable[[], Mapping[str, Any]], what: str) -> None:
    """Check that values are the same in all processes. Every process must call it.

    Args:
        own (Callable): Returns the values of this process by name: strings, numbers, lists, dicts.
        what (str): What is compared, for error messages.

    Raises:
        ValueError: In every process, if any of them differs from process 0; the message names the
            process and the values.
    """
    if get_world_size() < 2:
        return
    everyone = all_gather_object(dict(own()))
    others = [rank for rank, one in enumerate(everyone) if one != everyone[0]]
    if not others:
        return
    lines = list(differences(everyone[0], everyone[others[0]]))
    rest = f' and {len(lines) - SHOWN} more' if len(lines) > SHOWN else ''
    shown = '; '.join(f'`{name}` is {one} in process 0 and {other} in process {others[0]}'
                      for name, one, other in lines[:SHOWN])
    raise ValueError(
        f'the processes of this run start with different settings ({what}): of {len(everyone)}, '
        f'process {", ".join(map(str, others[:SHOWN]))} differs from process 0: {shown}{rest}; '
        'start all processes with the same config and the same files')


def differences(one: Any, other: Any, name: str = '') -> Iterator[Tuple[str, str, str]]:
    """Differences between two nested values: dotted name, and both values as strings."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in [*one, *(key for key in other if key not in one)]:
            yield from differences(one.get(key), other.get(key), f'{name}.{key}'.lstrip('.'))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, pair in enumerate(zip(one, other)):
            yield from differences(*pair, f'{name}[{number}]')
    elif isinstance(one, list) and isinstance(other, list):
        yield f'the length of {name}', str(len(one)), str(len(other))
    elif one != other:
        yield name, _shown(one), _shown(other)


@contextmanager
def all_or_none(what: str) -> Iterator[None]:
    """Context manager that raises an error in all processes if one raises it in the block.

    Without it the other processes would wait forever.

    Args:
        what (str): What is done in the block, for error messages.

    Raises:
        Exception: The error of this process.
        ValueError: If only other processes have an error; the message quotes the first one.
    """
    try:
        yield
    except Exception as error:  # any error must reach the other processes
        if get_world_size() > 1:
            all_gather_object(f'{type(error).__name__}: {error}')
        raise
    if get_world_size() > 1:
        said = all_gather_object(None)
        wrong = [rank for rank, text in enumerate(said) if text is not None]
        if wrong:
            raise ValueError(f'process {wrong[0]} of {len(said)} could not {what}, so all '
                             f'processes stop; its error is: {said[wrong[0]]}')


def parts_of_config(config: Any) -> Dict[str, Any]:
    """Parts of a config that must be the same in all processes. Paths may differ between hosts, so
    only their last part counts."""
    return {key: _plain(config.get(key)) for key in PARTS if config.get(key) is not None}


def weights_of(model: Any) -> str:
    """SHA-256 of the weights of a model."""
    if is_model_wrapper(model):
        model = model.module
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        value = tensor.detach().cpu().contiguous().flatten()
        digest.update(bytes(value.view(torch.uint8).numpy()) if value.numel() else b'')
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, str):
        return os.path.basename(value.rstrip('/')) if '/' in value else value
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return getattr(value, '__qualname__', type(value).__qualname__)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f'{text[:200]}...'
