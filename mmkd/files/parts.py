"""How does a file come into a folder so that it is whole there, or not there at all?"""
import errno
import glob
import logging
import os
import shutil
import socket
import time
from contextlib import contextmanager
from typing import Callable, Iterator, List, NamedTuple, Optional

from mmengine.logging import print_log

PART = '.part'
"""Follows the name of a file that is being written; after it comes who writes it."""

STALE = 3600
"""Seconds after which a part that nobody has written to is left over. This decides where it cannot
be seen whether its process is at work: on another host, or if an earlier version of mmkd wrote
it."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system answers where there is no room for a file."""


class Process(NamedTuple):
    """One process, told apart from a later one of the same number."""
    host: str
    pid: int
    started: int
    """When it started, in ticks of the system's clock; 0 if unknown."""

    @classmethod
    def this(cls) -> 'Process':
        """The process that asks."""
        host = ''.join(one if one.isalnum() or one in '-_' else '-' for one in socket.gethostname())
        return cls(host or 'host', os.getpid(), _start_of(os.getpid()))

    @classmethod
    def of(cls, text: str) -> Optional['Process']:
        """Read what :meth:`__str__` wrote; None if it is something else."""
        host, *numbers = text.rsplit('.', 2)
        if not host or len(numbers) != 2 or not all(one.isdigit() for one in numbers):
            return None
        return cls(host, int(numbers[0]), int(numbers[1]))

    def __str__(self) -> str:
        return '.'.join(map(str, self))

    @property
    def is_gone(self) -> Optional[bool]:
        """Whether it has ended; None if that cannot be seen from this host."""
        if self.host != Process.this().host:
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:  # another user's
            pass
        return bool(self.started) and _start_of(self.pid) not in (0, self.started)


def _start_of(pid: int) -> int:
    try:
        with open(f'/proc/{pid}/stat') as file:
            return int(file.read().rpartition(')')[2].split()[19])
    except (OSError, ValueError, IndexError):  # no Linux
        return 0


def part_of(path: str, writer: Optional[Process] = None) -> str:
    """Where a process writes a file before it is whole.

    Args:
        path (str): The file.
        writer (Process, optional): Who writes it. Defaults to None, this process.
    """
    return f'{path}{PART}.{writer or Process.this()}'


def settle(part: str, path: str) -> None:
    """Give a file, or a folder of files, that is whole its name.

    Args:
        part (str): Where it was written.
        path (str): Its name; what has it goes.

    Raises:
        FileNotFoundError: If the part is gone.
    """
    if os.path.isfile(part):
        with open(part, 'rb+') as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    elif os.path.isdir(part):  # DeepSpeed's, of which every process writes a part
        shutil.rmtree(path, ignore_errors=True)
        os.replace(part, path)
    else:
        raise FileNotFoundError(
            f'`{path}` was not saved: what was written of it, `{os.path.basename(part)}`, is gone '
            'from its folder; another process has removed it, so look whether another run, or a '
            'clean-up, is at work there, and resume from the checkpoint before')


@contextmanager
def whole_or_not(path: str, writer: Optional[Process] = None,
                 needed: Callable[[], int] = lambda: 0) -> Iterator[str]:
    """Inside the block, write to the path that this gives; after it, that has the file's name.

    However the block ends, nothing half written is left by a process that lives on.

    Args:
        path (str): The file.
        writer (Process, optional): Who writes it. Defaults to None, this process.
        needed (Callable): Gives, for the message, about how many bytes it has; 0 is unknown.

    Raises:
        FileNotFoundError: If nothing was written, or it is gone.
        OSError: If the disk is full; the message says what there is room for and what could go.
    """
    part = part_of(path, writer)
    discard(part)
    try:
        yield part
        settle(part, path)
    except OSError as error:
        discard(part)  # before it is said how much is free
        if error.errno not in FULL:
            raise
        raise OSError(error.errno, full_disk(path, needed(), error)) from error
    except RuntimeError as error:  # torch's own writer
        discard(part)
        if 'PytorchStreamWriter' not in str(error):
            raise
        raise OSError(errno.ENOSPC, full_disk(path, needed(), error)) from error
    finally:
        discard(part)


def full_disk(path: str, needed: int, error: Exception) -> str:
    """What is said where a file finds no room.

    Args:
        path (str): The file.
        needed (int): About how many bytes it has; 0 is unknown.
        error (Exception): What the system says.
    """
    folder = os.path.dirname(os.path.abspath(path))
    why = {errno.EDQUOT: 'the quota is used up', errno.EFBIG: 'files may not become so large '
           '(`ulimit -f`)'}.get(getattr(error, 'errno', None) or 0, 'the disk is full')
    try:
        free = f'{_size(shutil.disk_usage(folder).free)} are free'
    except OSError:
        free = 'how much is free is unknown'
    others = removable(folder, path)
    remedy = (f'{", ".join(others)} could go' if others else
              'no older checkpoint is left there')
    step = 'raise the limit' if getattr(error, 'errno', None) == errno.EFBIG else 'make room'
    return (f'`{path}` was not saved, because {why}: {free}' +
            (f', about {_size(needed)} are needed' if needed else '') +
            f'; {remedy}. What was half written is removed, earlier checkpoints stay; {step}, and '
            'go on with `--resume`')


def removable(folder: str, path: str, shown: int = 5) -> List[str]:
    """Checkpoints of a folder that no resumed run needs, the largest first, with their sizes."""
    kept, sizes = {os.path.basename(path)}, {}
    note = os.path.join(folder, 'last_checkpoint')
    if os.path.isfile(note):  # the last with finite weights, where there are newer ones without
        with open(note, errors='replace') as file:
            kept.add(os.path.basename(file.read(4096).strip()))
    # The newest stays, too, and whatever is no checkpoint to go on from.
    found = [one for kind in ('epoch', 'iter')
             for one in glob.glob(os.path.join(glob.escape(folder), f'{kind}_*.pth'))
             if os.path.isfile(one) and os.path.basename(one) not in kept]
    for one in sorted(found, key=os.path.getmtime)[:None if len(kept) > 1 else -1]:
        sizes[os.path.basename(one)] = os.path.getsize(one)
    names = sorted(sizes, key=lambda name: -sizes[name])
    rest = len(names) - shown
    return [f'{name} ({_size(sizes[name])})' for name in names[:shown]] + (
        [f'{rest} more'] if rest > 0 else [])


def _size(count: int) -> str:
    for unit in ('bytes', 'KiB', 'MiB'):
        if count < 1024:
            return f'{count:.0f} {unit}' if unit == 'bytes' else f'{count:.1f} {unit}'
        count /= 1024  # type: ignore[assignment]
    return f'{count:.1f} GiB'


def discard(part: str) -> None:
    """Remove a part, if it is there."""
    if os.path.isdir(part):
        shutil.rmtree(part, ignore_errors=True)
    elif os.path.exists(part):
        os.remove(part)


def remove_abandoned(folder: str) -> None:
    """Remove parts in a folder whose process has ended; those of a process at work stay.

    Args:
        folder (str): Of checkpoints.
    """
    for path in glob.glob(os.path.join(glob.escape(folder), f'*{PART}*')):
        name, _, writer = os.path.basename(path).rpartition(PART)
        if not name.endswith(('.pth', '.safetensors')):
            continue
        process = Process.of(writer.removeprefix('.'))
        is_gone = process.is_gone if process is not None else None
        try:
            if is_gone is None:
                is_gone = time.time() - os.path.getmtime(path) > STALE
            if is_gone:
                discard(path)
        except FileNotFoundError:  # its process has just ended it
            continue
        if not is_gone:
            who = f'process {process.pid} on {process.host}' if process else 'another process'
            print_log(f'{path} is being written by {who}, and stays', 'current', logging.WARNING)
