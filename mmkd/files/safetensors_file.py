"""What does an open .safetensors file contain?"""
import json
import os
from contextlib import contextmanager
from io import BytesIO
from tempfile import NamedTemporaryFile
from typing import Any, BinaryIO, Dict, Iterator

from ..core.errors import explained
from .safe_types import first_line


def read_safetensors(file: BinaryIO, path: str, map_location: Any) -> Dict[str, Any]:
    """Read the weights of a .safetensors file, and its meta data.

    Args:
        file (BinaryIO): The file.
        path (str): Name of the file.
        map_location (Any): As in :func:`torch.load`.

    Returns:
        dict: Weights under ``'state_dict'``, and ``'meta'``, {} if the file has none.

    Raises:
        ImportError: If the package safetensors is not installed.
        ValueError: If the file cannot be read.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise ImportError(f'`{path}` needs the package safetensors, which is not installed; run '
                          '`pip install safetensors`') from error
    try:
        with _named_file(file, path) as name, safe_open(name, 'pt') as opened:
            weights = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
            beside = opened.metadata() or {}
            # Copied, because reading a memory-mapped file that is truncated later ends Python.
            weights = {key: tensor.clone() for key, tensor in weights.items()}
    except SafetensorError as error:
        raise ValueError(f'`{path}` is not a readable checkpoint, it may be truncated: '
                         f'{first_line(error)}; download or save it again') from error
    if map_location is not None and not callable(map_location):
        weights = {name: tensor.to(map_location) for name, tensor in weights.items()}
    with explained(f'`meta` of `{path}` cannot be read', 'write it as JSON, or leave it out'):
        meta = json.loads(beside.get('meta', '{}'))
    return dict(state_dict=weights, meta=meta)


@contextmanager
def _named_file(file: BinaryIO, path: str) -> Iterator[str]:
    """A path under which an open file can be opened again; safetensors needs one."""
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
        raise ValueError(f'`{path}` was replaced while it was read; run the command again')
