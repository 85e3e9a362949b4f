"""What does this file contain, read without running code from it?"""
import os
from contextlib import contextmanager
from typing import Any, BinaryIO, Iterator, Tuple

import torch

from .archive import damaged_part, foreign_part, hash_of, is_of_torch, state_of
from .razor import student_of_razor
from .safe_types import allow_mmengine_checkpoints, first_line, is_refusal
from .safetensors_file import read_safetensors
from .zoo import CONFIGS

SWITCHES = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'
"""Environment variables of torch. MMEngine's loaders do not pass ``weights_only`` to
:func:`torch.load`."""

TRUE = '1', 'y', 'yes', 'true'
"""Values of these variables that torch takes for true."""


def read_file(path: str, trust: bool, where: str, map_location: Any = 'cpu') -> Any:
    """Read a .pth or .safetensors file without running code from it.

    Args:
        path (str): The file.
        trust (bool): Whether to read it as a pickle, which may run code.
        where (str): Where ``trust_checkpoint=True`` goes in the config, for error messages.
        map_location (Any): As in :func:`torch.load`. Defaults to 'cpu'.

    Raises:
        ImportError: If it is a .safetensors file and the package safetensors is not installed.
        ValueError: If it cannot be read, or holds more than weights and numbers.
    """
    with opened(path) as file:
        return read_open(file, path, trust, where, map_location, is_hashed=False)[0]


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """Open a file for reading.

    Raises:
        ValueError: If it cannot be opened.
    """
    try:
        file = open(path, 'rb')  # noqa: SIM115
    except OSError as error:
        raise ValueError(f'`{path}` cannot be opened: {error.strerror}; check its path and '
                         'permissions') from error
    with file:
        yield file


def read_open(file: BinaryIO, path: str, trust: bool, where: str, map_location: Any = 'cpu',
              is_hashed: bool = True) -> Tuple[Any, str]:
    """Like :func:`read_file` for an open file; also returns the SHA-256 of the file.

    Raises:
        ValueError: As :func:`read_file`, and if the file is written to meanwhile.
    """
    before = state_of(file)
    digest = hash_of(file) if is_hashed else ''
    try:
        if path.endswith('.safetensors'):
            content = read_safetensors(file, path, map_location)
        else:
            content = _read_torch(file, path, trust, where, map_location)
        _check_unchanged(file, path, before)
    except ValueError:
        _check_unchanged(file, path, before)  # a change explains the error better
        raise
    return student_of_razor(content, path), digest


def _check_unchanged(file: BinaryIO, path: str, before: Tuple[int, int]) -> None:
    if state_of(file) != before:
        raise ValueError(f'`{path}` was modified while it was read; wait until it is complete, and '
                         'start again')


def _read_torch(file: BinaryIO, path: str, trust: bool, where: str, map_location: Any) -> Any:
    allow_mmengine_checkpoints()  # again: MMEngine of the forks clears the list after loading
    foreign = foreign_part(file)
    if foreign:
        raise ValueError(f'`{path}` is not a checkpoint of torch.save: {foreign}; save it again by '
                         'torch.save')
    try:
        file.seek(0)
        checkpoint = torch.load(file, map_location=map_location, weights_only=not trust)
    except Exception as error:  # torch raises half a dozen types for a file it cannot read
        # An HTML error page saved under the name of a checkpoint is not reported as dangerous.
        if path.endswith(CONFIGS):
            raise ValueError(f'`{path}` is a config, not a checkpoint; use the weights of its '
                             'model, a file such as `epoch_12.pth`') from error
        if not is_of_torch(file) or not is_refusal(error):
            raise ValueError(f'`{path}` is not a readable checkpoint, it may be truncated: '
                             f'{first_line(error)}; download or save it again') from error
        if trust and os.environ.get(SWITCHES[0], '').lower() in TRUE:
            raise ValueError(
                f'`{path}` contains more than weights, and `trust_checkpoint=True` does not open '
                f'it while {SWITCHES[0]}={os.environ[SWITCHES[0]]} is set in the environment; '
                'unset it, or use a file that contains only weights') from error
        raise ValueError(
            f'`{path}` contains more than weights and was not opened, because such a file can run '
            f'code ({first_line(error)}); if you trust its source, write `trust_checkpoint=True` '
            f'{where}') from error
    damaged = damaged_part(file)
    if damaged:
        raise ValueError(f'`{path}` is damaged: the checksum of `{damaged}` in it does not match; '
                         'download or save it again')
    return checkpoint
