"""From which checkpoint of a folder is an interrupted run resumed?"""
import glob
import logging
import os
import re
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import torch
from mmengine.logging import print_log

from ..core.names import joined
from .archive import foreign_part, is_zip
from .finite import not_finite
from .guard import dict_in
from .reading import read_file
from .safe_types import allow_mmengine_checkpoints
from .whole import is_whole

RUN = 'mmkd_run'
"""Key of ``meta`` under which mmkd.CheckpointHook records the run that saved a file:
``dict(started=...)``, in seconds since 1970."""

KINDS = ('epoch', 'iter')
"""Prefixes of the names of checkpoints that MMEngine saves for resuming."""


class Candidate(NamedTuple):
    """A checkpoint of a folder."""
    path: str
    begun: float
    """When its run started; if the file does not state it, when it was saved; 0 if unknown."""
    iteration: int
    epoch: int
    number: int
    """Number in its name, -1 if there is none."""
    holds: Any
    """Content of the file; None if it cannot be read, or if the checkpoint is a folder."""

    @property
    def order(self) -> Tuple[float, int, int, int]:
        """Sort key: largest for the furthest checkpoint of the run that started last."""
        return self.begun, self.iteration, self.epoch, self.number

    @property
    def reached(self) -> Tuple[int, int, int]:
        return self.order[1:]


def latest_whole(folder: str) -> Optional[str]:
    """The checkpoint from which an interrupted run is resumed.

    The candidates are the checkpoints that MMEngine saved in the folder, and the one named in
    ``last_checkpoint``. Of the run that was started last, it is the one furthest in training, by
    the iteration stated in the file, which is complete and has finite weights. Skipped ones are
    logged.

    Args:
        folder (str): The work dir.

    Returns:
        str | None: Path of the checkpoint; None if there is none.
    """
    found = checkpoints_of(folder)
    named = _named_in(folder)
    if named:
        # The work dir may have been moved or copied, or the path may be relative to another folder.
        here = os.path.join(folder, os.path.basename(named))
        found += [here] if os.path.exists(here) or found else [named]
    candidates = sorted(map(look_at, dict.fromkeys(found)), key=lambda one: one.order,
                        reverse=True)
    chosen = next((one for one in candidates if _can_be_gone_on_from(one)), None)
    if chosen is None:
        if candidates:
            _warn(f'no checkpoint in {folder} can be resumed')
        others = set(glob.glob(os.path.join(glob.escape(folder), '*.pth'))) - set(found)
        if others:
            _warn(f'which of {joined(sorted(others))} is the last is not known, so none is '
                  'resumed; write `--resume PATH` with the one to resume')
        return None
    older = [one.path for one in reversed(candidates) if one.begun < chosen.begun
             and one.reached > chosen.reached]
    if older:
        _warn(f'{joined(older)} {"is" if len(older) == 1 else "are"} from an earlier run in '
              f'{folder} and skipped, though further in training than {chosen.path}; write '
              '`--resume PATH` to resume one of them')
    return chosen.path


def checkpoints_of(folder: str) -> List[str]:
    """Paths of the checkpoints that MMEngine saved in a folder, sorted by number."""
    found = [path for kind in KINDS
             for path in glob.glob(os.path.join(glob.escape(folder), f'{kind}_*.pth'))]
    return sorted(found, key=lambda path: (len(path), path))


def look_at(path: str) -> Candidate:
    """Read the meta data of a checkpoint. Its weights are memory-mapped, not read."""
    match = re.search(r'_(\d+)\.pth$', path)
    number = int(match.group(1)) if match else -1
    if os.path.isdir(path):  # a checkpoint of DeepSpeed
        return Candidate(path, os.path.getmtime(path), number, -1, number, None)
    holds = _mapped(path)
    meta = dict_in(holds, 'meta')
    iteration, epoch = (value if type(value) is int else -1
                        for value in (meta.get('iter'), meta.get('epoch')))
    return Candidate(path, _begun(meta, path), iteration, epoch, number, holds)


def _mapped(path: str) -> Any:
    """Content of a file with memory-mapped tensors; None if it cannot be read."""
    allow_mmengine_checkpoints()
    try:
        with open(path, 'rb') as file:
            is_archive = is_zip(file)
            if is_archive and foreign_part(file):  # reading it would unpack it
                return None
        if is_archive:
            return torch.load(path, map_location='cpu', weights_only=True, mmap=True)
        return read_file(path, False, '')  # as torch wrote them before 1.6
    except Exception:  # torch raises half a dozen types; `is_whole` checks the file later
        return None


def _begun(meta: Dict[str, Any], path: str) -> float:
    started = dict_in(meta, RUN).get('started')
    if isinstance(started, (int, float)) and not isinstance(started, bool):
        return float(started)
    if not meta:  # not saved by a run: only the number in its name counts
        return 0.
    try:
        return time.mktime(time.strptime(str(meta.get('time')), '%Y%m%d_%H%M%S'))
    except (ValueError, OverflowError):
        return os.path.getmtime(path)


def _can_be_gone_on_from(one: Candidate) -> bool:
    if os.path.isdir(one.path):
        return one.number >= 0
    if not os.path.isfile(one.path):
        return False
    if not is_whole(one.path):
        _warn(f'{one.path} was not written to its end, and is skipped')
        return False
    broken = not_finite(one.holds)
    if broken:
        _warn(f'{one.path} is skipped, because {len(broken)} of its tensors have infinite or NaN '
              f'values, such as `{broken[0]}`; the newest checkpoint before it is resumed, and '
              'training may diverge again: lower the learning rate, or clip gradients')
    return not broken


def _named_in(folder: str) -> str:
    note = os.path.join(folder, 'last_checkpoint')
    if not os.path.isfile(note):
        return ''
    with open(note, errors='replace') as file:
        return file.read(4096).strip().replace('\0', '')


def _warn(text: str) -> None:
    print_log(text, 'current', logging.WARNING)
