"""Read weights: without running code from the file, and without letting a misfit pass."""
import json
import os
from collections import OrderedDict
from contextlib import contextmanager
from io import BytesIO
from tempfile import NamedTemporaryFile
from typing import Any, BinaryIO, Dict, Iterator, NamedTuple, Tuple

import torch
from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader

from ..core.build import explained
from ..core.names import joined
from ..core.runner import current_runner
from .archive import (
    damaged_part,
    growing_part,
    hash_of,
    hash_of_file,
    is_of_torch,
    is_zip,
    state_of,
)
from .fit import check_start, load_exactly
from .safe_types import allow_mmengine_checkpoints
from .sources import SUPPORTED, from_object_store, is_in_object_store, is_of_others, local_path
from .zoo import CONFIGS

__all__ = ['Loaded', 'allow_mmengine_checkpoints', 'check_start', 'hash_of_file', 'is_trusted',
           'is_whole', 'load_exactly', 'load_hashed', 'read_checkpoint',
           'read_file', 'read_open', 'student_of_razor', 'wrong_with']

SWITCHES = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'
"""Torch's own: MMEngine's loaders hand no ``weights_only`` on to :func:`torch.load`."""

TRUE = '1', 'y', 'yes', 'true'
"""What torch takes for a switch that is on."""

RAZOR = ('architecture.', 'teacher.', 'distiller.')
"""How the names of weights begin in a distilled checkpoint of MMRazor 1.0: the student's first."""


class Loaded(NamedTuple):
    """What was read of a checkpoint file."""
    checkpoint: Dict[str, Any]
    """Its weights under ``'state_dict'``, and what stands beside them."""
    name: str
    """Name of the file, without its folder."""
    digest: str
    """SHA-256 of the bytes that were read."""


def read_checkpoint(source: str, trust: bool = False, whose: str = 'teacher') -> Dict[str, Any]:
    """Read a checkpoint file onto the CPU.

    Args:
        source (str): Path or address, of the kinds of :data:`mmkd.files.sources.SUPPORTED`; a
            download is kept where torch.hub keeps its own.
        trust (bool): Read it as a pickle that may run code. Defaults to False.
        whose (str): For the message. Defaults to 'teacher'.

    Returns:
        dict: The checkpoint, its weights under ``'state_dict'``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no checkpoint, or holds more than weights and numbers.
    """
    return load_hashed(source, trust, whose).checkpoint


def load_hashed(source: str, trust: bool = False, whose: str = 'teacher') -> Loaded:
    """As :func:`read_checkpoint`, with the hash of what was read, from one open file: whatever
    happens under its name meanwhile, the hash is that of the weights."""
    where = 'beside `checkpoint`'
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
                f'no {whose} checkpoint at `{path}` (looked from {os.getcwd()}); '
                f'give `{whose}.checkpoint` the path or address of the weights')
        with _opened(path) as file:
            checkpoint, digest = read_open(file, path, trust, where)
    if isinstance(checkpoint, dict) and 'state_dict' not in checkpoint:
        checkpoint = dict(state_dict=checkpoint.get('model', checkpoint))
    weights = checkpoint.get('state_dict') if isinstance(checkpoint, dict) else checkpoint
    if not isinstance(weights, dict) or not weights or not all(
            isinstance(name, str) and isinstance(value, torch.Tensor)
            for name, value in weights.items()):
        raise ValueError(f'`{path}` holds no weights: expected a dict with `state_dict`, tensors '
                         f'by name, but found {_described(weights)}; give the checkpoint of a '
                         'trained model')
    if not isinstance(checkpoint.get('meta'), dict):
        checkpoint['meta'] = {}
    return Loaded(checkpoint, os.path.basename(path), digest)


def read_file(path: str, trust: bool, where: str, map_location: Any = 'cpu') -> Any:
    """Whatever a .pth or .safetensors file holds, without running code from it.

    Args:
        path (str): The file.
        trust (bool): Read it as a pickle that may run code.
        where (str): Where the config says that it is trusted, for the message.
        map_location (Any): As of :func:`torch.load`. Defaults to 'cpu'.

    Raises:
        ImportError: If it is a .safetensors file and the package safetensors is not installed.
        ValueError: If it cannot be read, or holds more than weights and numbers.
    """
    with _opened(path) as file:
        return read_open(file, path, trust, where, map_location, is_hashed=False)[0]


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    try:
        file = open(path, 'rb')  # noqa: SIM115
    except OSError as error:
        raise ValueError(f'`{path}` cannot be opened: {error.strerror}; give a file that this '
                         'user may read') from error
    with file:
        yield file


def read_open(file: BinaryIO, path: str, trust: bool, where: str, map_location: Any = 'cpu',
              is_hashed: bool = True) -> Tuple[Any, str]:
    """What an open file holds, as :func:`read_file`, and the SHA-256 of it.

    Raises:
        ValueError: Also if somebody writes into it meanwhile.
    """
    before = state_of(file)
    digest = hash_of(file) if is_hashed else ''
    try:
        if path.endswith('.safetensors'):
            content = _read_safetensors(file, path, map_location)
        else:
            content = _read_torch(file, path, trust, where, map_location)
        _check_unchanged(file, path, before)
    except ValueError:
        _check_unchanged(file, path, before)  # if it was changed, that is why
        raise
    return student_of_razor(content, path), digest


def _check_unchanged(file: BinaryIO, path: str, before: Tuple[int, int]) -> None:
    if state_of(file) != before:
        raise ValueError(f'`{path}` was written to while it was read; wait until it is whole, and '
                         'start again')


def _read_torch(file: BinaryIO, path: str, trust: bool, where: str, map_location: Any) -> Any:
    allow_mmengine_checkpoints()  # once more: the forks' MMEngine takes it back after loading
    growing = growing_part(file)
    if growing:
        raise ValueError(f'`{path}` is no checkpoint as torch writes them: {growing}; save it anew '
                         'by torch.save')
    try:
        file.seek(0)
        checkpoint = torch.load(file, map_location=map_location, weights_only=not trust)
    except Exception as error:  # torch raises half a dozen types for a file it cannot read
        # A page of an error, saved by its address, would be called dangerous, too.
        if path.endswith(CONFIGS):
            raise ValueError(f'`{path}` is a config, no checkpoint; give the weights of its model, '
                             'a file such as `epoch_12.pth`') from error
        if not is_of_torch(file) or (
                'weights_only' not in str(error) and 'Unsupported' not in str(error)):
            raise ValueError(f'`{path}` is not a readable checkpoint, it may be cut short: '
                             f'{_first_line(error)}; download or save it anew') from error
        if trust and os.environ.get(SWITCHES[0], '').lower() in TRUE:
            raise ValueError(
                f'`{path}` holds more than weights, and `trust_checkpoint=True` does not open it '
                f'while {SWITCHES[0]}={os.environ[SWITCHES[0]]} is set in the environment; unset '
                'it, or give a file of weights alone') from error
        raise ValueError(
            f'`{path}` holds more than weights and was not opened, because such a file can run '
            f'code ({_first_line(error)}); if you trust where it comes from, write '
            f'`trust_checkpoint=True` {where}') from error
    damaged = damaged_part(file)
    if damaged:
        raise ValueError(f'`{path}` has changed since it was written: `{damaged}` in it has '
                         'another checksum; download or save it anew')
    return checkpoint


def _read_safetensors(file: BinaryIO, path: str, map_location: Any) -> Dict[str, Any]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise ImportError(f'`{path}` is read by the package safetensors, which is not installed; '
                          'run `pip install safetensors`') from error
    try:
        with _named_file(file, path) as name, safe_open(name, 'pt') as opened:
            weights = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
            beside = opened.metadata() or {}
            # Away from the mapping of a file that may be cut later, which would end Python.
            weights = {key: tensor.clone() for key, tensor in weights.items()}
    except SafetensorError as error:
        raise ValueError(f'`{path}` is not a readable checkpoint, it may be cut short: '
                         f'{_first_line(error)}; download or save it anew') from error
    if map_location is not None and not callable(map_location):
        weights = {name: tensor.to(map_location) for name, tensor in weights.items()}
    with explained(f'`meta` of `{path}` cannot be read', 'write it as JSON, or leave it out'):
        meta = json.loads(beside.get('meta', '{}'))
    return dict(state_dict=weights, meta=meta)


@contextmanager
def _named_file(file: BinaryIO, path: str) -> Iterator[str]:
    """A name under which an open file can be opened once more; safetensors wants one."""
    if isinstance(file, BytesIO):
        with NamedTemporaryFile(suffix='.safetensors') as copy:
            copy.write(file.getvalue())
            copy.flush()
            yield copy.name
        return
    yield path
    try:
        is_same = os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except OSError:
        is_same = False
    if not is_same:
        raise ValueError(f'`{path}` was replaced while it was read; start again')


def student_of_razor(checkpoint: Any, path: str) -> Any:
    """Of a distilled checkpoint of MMRazor 1.0 the student, under its own names.

    MMRazor keeps the student as 'architecture', and the teacher and its connectors beside it; in a
    plain model MMEngine would load nothing of that, and say so in warnings only.

    Args:
        checkpoint (Any): What a file held.
        path (str): The file, for the log.

    Returns:
        Any: Of the checkpoint the student's weights, and what is known of its data; the optimizer
        trained more. The checkpoint as it was, if it is not of that shape.
    """
    weights = checkpoint.get('state_dict') if isinstance(checkpoint, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights):
        return checkpoint
    names = {name: name.removeprefix('module.') for name in weights}
    student = RAZOR[0]
    if not all(name.startswith(RAZOR) for name in names.values()) or not any(
            name.startswith(student) for name in names.values()):
        return checkpoint
    own = OrderedDict((name[len(student):], weights[whole]) for whole, name in names.items()
                      if name.startswith(student))
    # The version of each layer: some rename their keys when they load an older one.
    own._metadata = OrderedDict(  # type: ignore[attr-defined]
        (f'{name.removeprefix("module.")}.'[len(student):].rstrip('.'), value)
        for name, value in (getattr(weights, '_metadata', None) or {}).items()
        if f'{name.removeprefix("module.")}.'.startswith(student))
    print_log(f'{path} was saved by MMRazor; its student, `architecture`, is taken: {len(own)} of '
              f'{len(weights)} tensors', 'current')
    meta = checkpoint.get('meta')
    meta = meta if isinstance(meta, dict) else {}
    return dict(state_dict=own, meta={key: meta[key] for key in ('dataset_meta', 'CLASSES')
                                      if key in meta})


def is_trusted() -> bool:
    """Whether the config of the run at work has checkpoints read as pickles that may run code."""
    runner = current_runner()
    return runner is not None and runner.cfg.get('trust_checkpoint', False) is True


def wrong_with(path: str) -> str:
    """Why a file is no checkpoint that was written to its end; '' if it is one."""
    if path.endswith('.safetensors'):
        try:
            read_file(path, False, '')
        except ValueError as error:
            return f'is no readable checkpoint ({_first_line(error)})'
        return ''
    with open(path, 'rb') as file:
        start = file.read(64).lstrip().lower()
    if start.startswith((b'<!doctype', b'<html', b'<?xml')):
        return 'is a web page, no checkpoint'
    return '' if is_whole(path) else 'is no checkpoint, or was cut short'


def is_whole(path: str) -> bool:
    """Whether a file of ``torch.save`` was written to its end and has not changed since."""
    try:
        with open(path, 'rb') as file:
            if is_zip(file):
                return not growing_part(file) and damaged_part(file) is None
            if not is_of_torch(file):
                return False
        read_file(path, False, '')  # as torch wrote them before 1.6
        return True
    except (OSError, ValueError) as error:
        return 'holds more than weights' in str(error)  # whole, and refused where it is loaded




def _described(weights: Any) -> str:
    if not isinstance(weights, dict):
        return type(weights).__name__
    kinds = {f'{type(key).__name__}: {type(value).__name__}' for key, value in weights.items()}
    return f'a dict of {joined(sorted(kinds)) or "nothing"}'


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines()
             if 'GLOBAL' in line or 'Unpickler error' in line] or [str(error)]
    return lines[0].strip()[:200]
