"""Does a run train in this folder already?"""
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
"""The file that a run keeps locked while it trains."""

_HELD: Dict[Tuple[int, str], List[Any]] = {}
"""By process and path: the open file and its number of holders. A process loses its lock when it
closes any of its open files of that path, so there is one per path."""


class HeldFolder:
    """Exclusive use of a folder by one run, until :meth:`release` or the end of its process.

    The operating system releases the lock when the process ends, even if it is killed, so there is
    nothing to clean up. On a file system without locks, the process named in the file counts if it
    runs on this host.

    Args:
        folder (str): The folder of checkpoints. It must exist.

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
            except OSError:  # a read-only folder raises an error at the first save
                return
            other = _holder(file)
            if other is not None:
                file.close()
                raise ValueError(
                    f'`{folder}` is in use: {other} is training there, and two runs in one folder '
                    "overwrite each other's checkpoints; wait until it ends, stop it, or use "
                    'another folder (`--work-dir`)')
            _note(file)
            _HELD[key] = [file, 0]
        _HELD[key][1] += 1
        self._end = weakref.finalize(self, _let_go, key)

    def release(self) -> None:
        """Release the folder. A second call does nothing."""
        if self._end is not None:
            self._end()


def _holder(file: Any) -> Optional[str]:
    """Describe the process that holds the folder; None if none did and this process now does."""
    is_locked = False
    if fcntl is not None:
        try:
            # `lockf` locks for the process, not for the open file, so data workers that outlive
            # their run by some seconds do not hold it.
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
    """Write this process into the file; a full disk is not an error here."""
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
