"""Is a run at work in this folder already?"""
import json
import os
import time
import weakref
from typing import Any, Dict, List, Optional, Tuple

from .parts import Process

try:
    import fcntl
except ImportError:  # no Unix
    fcntl = None  # type: ignore[assignment]

NAME = '.mmkd_run'
"""The file that a run holds locked while it trains."""

_HELD: Dict[Tuple[int, str], List[Any]] = {}
"""By process and path: the open file, and how many hold it. A process that closes any one of its
files of a path loses its lock of it, so there is one."""


class HeldFolder:
    """A folder that one run has for itself, until :meth:`release` or the end of its process.

    The operating system keeps the lock and ends it with the process, however that ends, so nothing
    is left that would have to be cleaned up. Where a file system has no locks, the process that is
    written into the file decides, if it is one of this host.

    Args:
        folder (str): The folder of checkpoints, which exists.

    Raises:
        ValueError: If another process holds it; the message names the process.
    """

    def __init__(self, folder: str) -> None:
        path = os.path.realpath(os.path.join(folder, NAME))
        self._end: Optional[weakref.finalize] = None
        key = os.getpid(), path
        if key not in _HELD:
            try:
                file = open(path, 'a+')  # noqa: SIM115
            except OSError:  # a folder that cannot be written says so at the first save
                return
            other = _holder(file)
            if other is not None:
                file.close()
                raise ValueError(
                    f'`{folder}` is in use: {other} is training there, and two runs in one folder '
                    'write over each other\'s checkpoints; wait until it ends, end it, or give '
                    'this run another folder (`--work-dir`)')
            _note(file)
            _HELD[key] = [file, 0]
        _HELD[key][1] += 1
        self._end = weakref.finalize(self, _let_go, key)

    def release(self) -> None:
        """Let go of it. A second call does nothing."""
        if self._end is not None:
            self._end()


def _holder(file: Any) -> Optional[str]:
    """Who holds the folder, in words; None if nobody does, and then this process does."""
    is_locked = False
    if fcntl is not None:
        try:
            # The lock is the process's, not the open file's: data workers, which outlive their
            # run for some seconds, do not hold it.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return None
        except (BlockingIOError, PermissionError):
            is_locked = True
        except OSError:  # no locks on this file system
            pass
    file.seek(0)
    try:
        note = json.loads(file.read(4096))
        process, since = Process.of(note['process']), str(note['since'])
    except (ValueError, TypeError, KeyError, AttributeError):
        return 'another process' if is_locked else None
    is_at_work = is_locked or (process is not None and process.pid != os.getpid() and
                               process.is_gone is False)
    return f'process {process.pid} on {process.host}, since {since},' if (
        process is not None and is_at_work) else 'another process' if is_locked else None


def _note(file: Any) -> None:
    """Who holds the folder; a disk that is full does not matter here."""
    try:
        file.seek(0)
        file.truncate()
        json.dump(dict(process=str(Process.this()), since=time.strftime('%Y-%m-%d %H:%M:%S')), file)
        file.flush()
    except OSError:
        pass


def _let_go(key: Tuple[int, str]) -> None:
    held = _HELD.get(key)
    if held is not None and key[0] == os.getpid():
        held[1] -= 1
        if not held[1]:
            _HELD.pop(key)[0].close()
