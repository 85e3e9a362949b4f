"""Which process of a machine downloads a file, while the others wait for it?"""
import json
import os
import re
import socket
import time
from contextlib import contextmanager, suppress
from typing import Any, Callable, Dict, Iterator, Tuple

from . import transfer

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

YIELD_SECONDS = 10.
"""How long the other processes of a machine wait for local rank 0 to start the download."""
POLL_SECONDS = 0.2

LOCAL_RANKS = 'LOCAL_RANK', 'SLURM_LOCALID', 'OMPI_COMM_WORLD_LOCAL_RANK', 'MPI_LOCALRANKID'

BY_HAND = 'download it by hand, and use its path instead of the address'


@contextmanager
def one_at_a_time(path: str, url: str) -> Iterator[Callable[[BaseException], None]]:
    """Context manager in which no other process of this machine downloads the file.

    Yields:
        Callable: Takes an error, which the waiting processes then raise, too.

    Raises:
        FileNotFoundError: If the process that downloads makes no progress, or has failed.
    """
    began = time.time()
    if fcntl is None:
        yield lambda error: None
        return
    folder, name = os.path.split(path)
    with open(os.path.join(folder, f'.lock-{name}'), 'a+') as lock:
        if _local_rank() > 0:
            _wait(lambda: os.path.isfile(path) or not _is_free(lock), YIELD_SECONDS)
        progress = _Progress(folder, name)
        # Longer than the timeouts of the process that downloads.
        limit = transfer.CONNECT_SECONDS + 2 * transfer.STALL_SECONDS
        while not _taken(lock):
            if time.monotonic() - progress.last() > limit:
                who = _said_in(lock)
                raise FileNotFoundError(
                    f'process {who.get("process", "?")} on {who.get("host", "?")} downloads {url} '
                    f'to `{path}`, but has made no progress for {limit:.0f} s; stop it, or '
                    f'{BY_HAND}')
            time.sleep(POLL_SECONDS)
        said = _said_in(lock)
        if said.get('error') and said.get('time', 0) >= began:  # a retry would fail again
            kind = ValueError if said.get('kind') == 'ValueError' else FileNotFoundError
            raise kind(said['error'])
        _say_in(lock, {})
        for part in progress.parts():  # left by killed processes, because this one has the lock
            with suppress(OSError):
                os.remove(part)
        yield lambda error: _say_in(lock, dict(
            error=str(error), kind=type(error).__name__, time=time.time()))


class _Progress:
    """Finds when the temporary files of a download last grew."""

    def __init__(self, folder: str, name: str) -> None:
        self._folder = folder
        self._like = re.compile(rf'\.part-{re.escape(socket.gethostname())}-\d+-{re.escape(name)}$')
        self._seen: Any = None
        self._last = time.monotonic()

    def parts(self) -> Tuple[str, ...]:
        return tuple(os.path.join(self._folder, one) for one in sorted(os.listdir(self._folder))
                     if self._like.match(one))

    def last(self) -> float:
        now = []
        for part in self.parts():
            with suppress(OSError):
                now.append((part, os.path.getsize(part)))
        if now != self._seen:
            self._seen, self._last = now, time.monotonic()
        return self._last


def _taken(lock: Any) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: each process downloads into its own file
        pass
    return True


def _is_free(lock: Any) -> bool:
    if _taken(lock):
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_UN)
        return True
    return False


def _said_in(lock: Any) -> Dict[str, Any]:
    lock.seek(0)
    try:
        found = json.loads(lock.read())
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {}


def _say_in(lock: Any, what: Dict[str, Any]) -> None:
    with suppress(OSError):
        lock.seek(0)
        lock.truncate()
        lock.write(json.dumps(dict(what, process=os.getpid(), host=socket.gethostname())))
        lock.flush()


def _wait(is_over: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not is_over() and time.monotonic() < end:
        time.sleep(POLL_SECONDS)


def _local_rank() -> int:
    """Rank of this process on its machine; 0 if no environment variable states it."""
    for name in LOCAL_RANKS:
        with suppress(ValueError):
            if name in os.environ:
                return int(os.environ[name])
    return 0
