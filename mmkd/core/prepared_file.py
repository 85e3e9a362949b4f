"""What is in the file of a module that was trained through a teacher? Requires only torch."""
import hashlib
import os
from functools import lru_cache
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence

import torch
from torch import Tensor

from .errors import said_by
from .missing import looked_for

FORMAT = 'mmkd.prepared'
"""Value of ``'format'`` in the file."""

DESCRIBED = ('type', 'arguments', 'teacher', 'on', 'paths', 'channels')
"""Keys that a description must have."""


class PreparedFile(NamedTuple):
    """Content of a file that :class:`mmkd.Prepare` has written."""
    path: str
    digest: str
    """SHA-256 of the file."""
    about: Dict[str, Any]
    """The description: ``type`` and ``arguments`` of the module; ``teacher``, names and hashes of
    its config and weights; ``on``, the point, with the ``paths`` of its modules and the number of
    ``channels`` of each level; ``is_logits``; ``iterations``; ``mmkd``, the version."""
    states: List[Dict[str, Tensor]]
    """State of the module of each level."""


def write_prepared(path: str, about: Mapping[str, Any],
                   states: Sequence[Mapping[str, Tensor]]) -> None:
    """Write the file in one step: an interrupted process leaves no incomplete file.

    Args:
        path (str): Where.
        about (Mapping): The description, with the keys of :data:`DESCRIBED`.
        states (Sequence[Mapping[str, Tensor]]): State of the module of each level.

    Raises:
        ValueError: If a value is infinite or NaN.
        OSError: If the file cannot be written.
    """
    weights = {f'{level}.{name}': value.detach().cpu().clone()
               for level, state in enumerate(states) for name, value in state.items()}
    broken = [name for name, value in weights.items() if not value.isfinite().all()]
    if broken:
        raise ValueError(f'`{path}` is not written: {len(broken)} of its tensors have infinite or '
                         f'NaN values, such as `{broken[0]}`; train again with a lower learning '
                         'rate')
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    part = f'{path}.{os.getpid()}'
    torch.save(dict(format=FORMAT, about=dict(about), state_dict=weights), part)
    os.replace(part, path)


def read_prepared(path: str) -> PreparedFile:
    """Read the file without running code from it.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it was not written by :func:`write_prepared`.
    """
    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f'no file at `{path}` {looked_for(path)}; give the file '
                                'that mmkd.Prepare writes at the end of its training')
    state = os.stat(path)
    return _read(os.path.abspath(path), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=2)
def _read(path: str, *state: int) -> PreparedFile:
    with open(path, 'rb') as file:
        digest = hashlib.sha256(file.read()).hexdigest()
        file.seek(0)
        try:
            content = torch.load(file, map_location='cpu', weights_only=True)
        except Exception as error:  # torch raises half a dozen types for a file it cannot read
            raise ValueError(f'`{path}` is not a readable file of weights: '
                             f'{said_by(error)}; {REMEDY}') from error
    if not isinstance(content, dict) or content.get('format') != FORMAT:
        found = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise ValueError(
            f'`{path}` is not a file of a prepared module: it contains {found}' +
            (', as a checkpoint does' if 'state_dict' in found else '') + f'; {REMEDY}')
    about, weights = content.get('about'), content.get('state_dict')
    missing = [key for key in DESCRIBED if not isinstance(about, dict) or key not in about]
    if missing or not isinstance(weights, dict) or not isinstance(about, dict):
        raise ValueError(f'`{path}` is incomplete: it lacks {missing or "weights"}; {REMEDY}')
    states: List[Dict[str, Tensor]] = [{} for _ in about['channels']]
    for name, value in weights.items():
        level, _, key = name.partition('.')
        if not isinstance(value, Tensor) or not level.isdigit() or int(level) >= len(states):
            raise ValueError(f'`{path}` contains `{name}`, which belongs to none of its '
                             f'{len(states)} levels; {REMEDY}')
        states[int(level)][key] = value
    return PreparedFile(path, digest, about, states)


REMEDY = 'give the file that mmkd.Prepare writes at the end of its training, such as prepared.pth'
