"""Do all processes of a run begin alike?"""
import hashlib
import os
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, Mapping, Tuple

import torch
from mmengine.dist import all_gather_object, get_world_size
from mmengine.model import is_model_wrapper

PARTS = ('model', 'custom_hooks', 'default_hooks', 'train_dataloader', 'train_cfg', 'optim_wrapper',
         'param_scheduler', 'auto_scale_lr', 'randomness', 'resume', 'load_from')
"""Of a config, what all processes must have alike."""

SHOWN = 5


def check_alike(own: Callable[[], Mapping[str, Any]], what: str) -> None:
    """Compare what this process begins with with what the others do; all of them call it.

    Args:
        own (Callable): Gives it: by name words, numbers, lists and dicts of such.
        what (str): What is compared, for the message.

    Raises:
        ValueError: In every process, if any differs from the first; the message says which, and in
            what.
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
        f'the processes of this run do not begin alike ({what}): of {len(everyone)}, process '
        f'{", ".join(map(str, others[:SHOWN]))} differs from process 0: {shown}{rest}; start all '
        'of them with the same config and the same files')


def differences(one: Any, other: Any, name: str = '') -> Iterator[Tuple[str, str, str]]:
    """Where two nested values differ: the dotted name, and what stands there on both sides."""
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
    """Have a mistake in one process end all of them: the others would wait for it for ever.

    Args:
        what (str): What is done in the block, for the message.

    Raises:
        Exception: The process's own.
        ValueError: Where it has none, but another process has; the message holds that one's.
    """
    try:
        yield
    except Exception as error:  # whatever it is, the others must hear of it
        if get_world_size() > 1:
            all_gather_object(f'{type(error).__name__}: {error}')
        raise
    if get_world_size() > 1:
        said = all_gather_object(None)
        wrong = [rank for rank, text in enumerate(said) if text is not None]
        if wrong:
            raise ValueError(f'process {wrong[0]} of {len(said)} could not {what}, so none goes '
                             f'on; look there. It says: {said[wrong[0]]}')


def parts_of_config(config: Any) -> Dict[str, Any]:
    """What all processes must have alike in a config; of paths, which may differ from host to host,
    the last part."""
    return {key: _plain(config.get(key)) for key in PARTS if config.get(key) is not None}


def weights_of(model: Any) -> str:
    """A digest of the weights that a process begins with."""
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
