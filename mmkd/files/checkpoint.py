"""Which weights does this path or address lead to?"""
import os
from typing import Any, Dict, NamedTuple

import torch
from mmengine.runner import CheckpointLoader

from ..core.errors import explained
from ..core.missing import looked_for
from ..core.names import joined
from .reading import opened, read_open
from .sources import SUPPORTED, from_object_store, is_in_object_store, is_of_others, local_path
from .whole import wrong_with


class Loaded(NamedTuple):
    """The content of a checkpoint file."""
    checkpoint: Dict[str, Any]
    """The weights under ``'state_dict'``, and all other keys of the file."""
    name: str
    """Name of the file without its folder."""
    digest: str
    """SHA-256 of the bytes that were read."""


def read_checkpoint(source: str, trust: bool = False, whose: str = 'teacher') -> Dict[str, Any]:
    """Read a checkpoint file onto the CPU.

    Args:
        source (str): Path or address of one of the kinds in :data:`mmkd.files.sources.SUPPORTED`.
            Downloads are cached in the folder of torch.hub.
        trust (bool): Whether to read it as a pickle, which may run code. Defaults to False.
        whose (str): Whose checkpoint it is, for error messages. Defaults to 'teacher'.

    Returns:
        dict: The checkpoint, with its weights under ``'state_dict'``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not a checkpoint, or holds more than weights and numbers.
    """
    return load_hashed(source, trust, whose).checkpoint


def load_hashed(source: str, trust: bool = False, whose: str = 'teacher') -> Loaded:
    """Like :func:`read_checkpoint`, but also returns the hash of the file.

    Weights and hash are read from one open file, so they belong together even if the file is
    replaced meanwhile.
    """
    where = 'next to `checkpoint`'
    if is_of_others(source):
        with explained(f'`{source}` cannot be read', f'give {SUPPORTED}'):
            checkpoint, digest = CheckpointLoader.load_checkpoint(source, 'cpu'), ''
        path = source
    elif is_in_object_store(source):
        path = source
        checkpoint, digest = read_open(from_object_store(source), source, trust, where)
    else:
        path = local_path(source, wrong_with)
        if not os.path.isfile(path):
            raise FileNotFoundError(
                f'no {whose} checkpoint at `{path}` {looked_for(path)}; '
                f'give `{whose}.checkpoint` the path or address of the weights')
        with opened(path) as file:
            checkpoint, digest = read_open(file, path, trust, where)
    if isinstance(checkpoint, dict) and 'state_dict' not in checkpoint:
        checkpoint = dict(state_dict=checkpoint.get('model', checkpoint))
    weights = checkpoint.get('state_dict') if isinstance(checkpoint, dict) else checkpoint
    if not isinstance(weights, dict) or not weights or not all(
            isinstance(name, str) and isinstance(value, torch.Tensor)
            for name, value in weights.items()):
        raise ValueError(f'`{path}` contains no weights: expected a dict with `state_dict`, '
                         f'tensors by name, but found {_described(weights)}; use the checkpoint of '
                         'a trained model')
    if not isinstance(checkpoint.get('meta'), dict):
        checkpoint['meta'] = {}
    return Loaded(checkpoint, os.path.basename(path), digest)


def _described(weights: Any) -> str:
    if not isinstance(weights, dict):
        return type(weights).__name__
    kinds = {f'{type(key).__name__}: {type(value).__name__}' for key, value in weights.items()}
    return f'a dict of {joined(sorted(kinds)) or "nothing"}'
