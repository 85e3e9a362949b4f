"""How does a file come from an address onto the disk: whole, checked, once per machine?"""
import hashlib
import json
import os
import re
import shutil
import socket
import ssl
import time
from contextlib import contextmanager, suppress
from http.client import HTTPException
from typing import Any, Callable, Dict, Iterator, Optional, Tuple
from urllib.error import HTTPError
from urllib.parse import urlparse
from urllib.request import Request, urlopen

import torch
from mmengine.logging import print_log

from ..core.build import explained

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

CONNECT_SECONDS = 30.
"""How long a server may take to answer."""
STALL_SECONDS = 60.
"""How long a server may send nothing, or fewer than :data:`STALL_BYTES`."""
STALL_BYTES = 1 << 16
YIELD_SECONDS = 10.
"""How long other processes of a machine leave the download to its first one."""
POLL_SECONDS = 0.2
BLOCK = 1 << 20

PUBLISHED = re.compile(r'-([0-9a-f]{8,64})\.\w+$')
"""How published names end: in the first digits of the file's SHA-256 (OpenMMLab, torch.hub)."""

LOCAL_RANKS = 'LOCAL_RANK', 'SLURM_LOCALID', 'OMPI_COMM_WORLD_LOCAL_RANK', 'MPI_LOCALRANKID'

BY_HAND = 'download it by hand, and give its path in place of the address'


def downloaded(url: str, check: Callable[[str], str]) -> str:
    """The path of what lies at an address; downloaded if it is not there yet.

    It is written under another name, compared with the length that the server tells and with the
    hash in its name, checked, and moved to its final name only then. Of the processes of a machine
    one downloads (the first, if it comes), the others wait for it, by a lock on a file, so it works
    before there is a process group.

    Args:
        url (str): http or https.
        check (Callable[[str], str]): Why a file is not what was wanted; '' if it is. It is given
            the path of the file; what it reads the name for, it finds in the name's end.

    Returns:
        str: The path, in the folder where torch.hub keeps its own.

    Raises:
        FileNotFoundError: If it cannot be downloaded, in time.
        ValueError: If it is no address, or what came is not what was wanted.
    """
    with explained(f'{url!a:.300} is no address', 'give one of http or https, or a path'):
        if any(ord(letter) < 33 for letter in url):
            raise ValueError('there are blanks or control characters in it')
        path, digest = place_of(url)
    try:
        if _is_good(path, url, digest, check):
            return path
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with _one_at_a_time(path, url) as note:
            if _is_good(path, url, digest, check):  # by another process meanwhile
                return path
            try:
                _download(url, path, digest, check)
            except (FileNotFoundError, ValueError) as error:
                note(error)
                raise
    except OSError as error:
        if isinstance(error, FileNotFoundError) and url in str(error):
            raise
        raise FileNotFoundError(f'{url} cannot be kept at `{path}`: {error}; make room there or '
                                f'set TORCH_HOME to another folder, or {BY_HAND}') from error
    return path


def place_of(url: str) -> Tuple[str, str]:
    """Where a download is kept, and the hash that its name promises ('' if none)."""
    name = os.path.basename(urlparse(url).path)
    published = PUBLISHED.search(name)
    if not published:  # another name may stand for several files
        name = f'{hashlib.sha256(url.encode()).hexdigest()[:8]}-{name}'
    return (os.path.join(torch.hub.get_dir(), 'checkpoints', name),
            published.group(1) if published else '')


def _is_good(path: str, url: str, digest: str, check: Callable[[str], str]) -> bool:
    """Whether a file under the final name is what it should be."""
    if not os.path.isfile(path):
        return False
    problem = _wrong_with(path, digest, check)
    if problem:
        print_log(f'`{path}`, kept from an earlier download, {problem}; it is downloaded anew from '
                  f'{url}', 'current')
    elif not digest:
        print_log(f'`{path}` is what was downloaded earlier from {url}; remove it to download it '
                  'anew', 'current')
    return not problem


def _wrong_with(path: str, digest: str, check: Callable[[str], str]) -> str:
    if digest:
        found = _hash_of(path)
        if not found.startswith(digest):
            with open(path, 'rb') as file:
                start = file.read(64).lstrip().lower()
            if start.startswith((b'<!doctype', b'<html')):
                return 'is a web page, no checkpoint'
            return f'has the hash {found[:len(digest)]}, not {digest} as its name says'
    return check(path)


def _hash_of(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        for block in iter(lambda: file.read(BLOCK), b''):
            digest.update(block)
    return digest.hexdigest()


def _download(url: str, path: str, digest: str, check: Callable[[str], str]) -> None:
    # The end of the name says how the file is read.
    folder, name = os.path.split(path)
    part = os.path.join(folder, f'.part-{socket.gethostname()}-{os.getpid()}-{name}')
    print_log(f'Downloading {url} to {path}', 'current')
    try:
        with open(part, 'wb') as file:
            try:
                _receive(url, file, folder)
            except (OSError, HTTPException, ValueError, UnicodeError) as error:
                raise FileNotFoundError(f'could not download the checkpoint {url}: '
                                        f'{_in_words(error)}; {BY_HAND}') from error
            file.flush()
            os.fsync(file.fileno())
        problem = _wrong_with(part, digest, check)
        if problem:
            raise ValueError(f'what lies at {url} {problem}; look at the address, or {BY_HAND}')
        os.replace(part, path)
    finally:
        with suppress(OSError):
            os.remove(part)


def _receive(url: str, file: Any, folder: str) -> None:
    """Write what a server sends into a file.

    Raises:
        OSError, HTTPException, ValueError: If it does not come, or not all of it.
    """
    request = Request(url, headers={'User-Agent': 'mmkd', 'Accept-Encoding': 'identity'})
    with urlopen(request, timeout=CONNECT_SECONDS) as response:
        kind = response.headers.get_content_type()
        if kind in ('text/html', 'application/xhtml+xml'):
            raise ValueError(f'the server sends a web page ({kind})')
        length = response.headers.get('Content-Length')
        wanted = int(length) if length and length.isdigit() else None
        free = shutil.disk_usage(folder).free
        if wanted is not None and wanted > free:
            raise ValueError(f'it has {_size(wanted)}, and {_size(free)} are free in {folder}')
        _limit(response, STALL_SECONDS)
        start = told = time.monotonic()
        received, mark, since = 0, 0, start
        while wanted is None or received < wanted:
            block = response.read1(BLOCK)
            if not block:
                break
            file.write(block)
            received += len(block)
            now = time.monotonic()
            if received - mark >= STALL_BYTES:
                mark, since = received, now
            elif now - since > STALL_SECONDS:
                raise TimeoutError(f'only {received - mark} bytes came in {now - since:.0f} s')
            if now - told > 30:
                told = now
                print_log(f'{_size(received)} of {_size(wanted)} of {url}', 'current')
        if wanted is not None and received != wanted:
            raise ValueError(f'it was cut off: {received} bytes of {wanted} came')


def _limit(response: Any, seconds: float) -> None:
    """Set how long one read may wait, where the connection can be reached."""
    with suppress(AttributeError):
        response.fp.raw._sock.settimeout(seconds)


def _in_words(error: BaseException) -> str:
    if isinstance(error, HTTPError):
        return f'the server answers {error.code} ({error.reason})'
    reason = getattr(error, 'reason', error)
    if isinstance(reason, ssl.SSLError):
        return f'no secure connection: {reason}'
    if isinstance(reason, TimeoutError):
        said = str(reason)
        return said if 'bytes came' in said else (
            f'the server sent nothing for {CONNECT_SECONDS:.0f} to {STALL_SECONDS:.0f} s ({said})')
    said = str(error) if isinstance(error, ValueError) else f'{type(error).__name__}: {reason}'
    return ' '.join(said.split())[:300]


def _size(count: Optional[int]) -> str:
    return '?' if count is None else f'{count / 2**20:.1f} MiB'


# --- one process at a time --------------------------------------------------------------------


@contextmanager
def _one_at_a_time(path: str, url: str) -> Iterator[Callable[[BaseException], None]]:
    """Inside the block, no other process of this machine downloads the file.

    Yields:
        Callable: To be told what went wrong, for those that wait.

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
        limit = CONNECT_SECONDS + 2 * STALL_SECONDS  # longer than the one that downloads waits
        while not _taken(lock):
            if time.monotonic() - progress.last() > limit:
                who = _said_in(lock)
                raise FileNotFoundError(
                    f'process {who.get("process", "?")} on {who.get("host", "?")} downloads {url} '
                    f'to `{path}`, but has made no progress for {limit:.0f} s; end it, or '
                    f'{BY_HAND}')
            time.sleep(POLL_SECONDS)
        said = _said_in(lock)
        if said.get('error') and said.get('time', 0) >= began:  # it would fail again
            kind = ValueError if said.get('kind') == 'ValueError' else FileNotFoundError
            raise kind(said['error'])
        _say_in(lock, {})
        for part in progress.parts():  # of processes that were killed: nobody else is at it
            with suppress(OSError):
                os.remove(part)
        yield lambda error: _say_in(lock, dict(
            error=str(error), kind=type(error).__name__, time=time.time()))


class _Progress:
    """When the part files of a download have last grown."""

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
    except OSError:  # a file system without locks: each process downloads into its own part
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
    """Of this process among those of the machine; 0 where nothing says so."""
    for name in LOCAL_RANKS:
        with suppress(ValueError):
            if name in os.environ:
                return int(os.environ[name])
    return 0
