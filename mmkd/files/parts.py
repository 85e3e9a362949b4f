"""How is a file written so that it is complete, or does not exist?"""
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
"""Suffix of a file that is being written; the process that writes it follows."""

STALE = 3600
"""Seconds without a write after which a part counts as abandoned, if nothing tells whether its
process has ended: on another host, or in parts of an earlier version of mmkd."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of the system if there is no space for a file."""


class Process(NamedTuple):
    """A process. Its start time distinguishes it from a later one with the same id."""
    host: str
    pid: int
    started: int
    """Start time in ticks of the system's clock; 0 if unknown."""

    @classmethod
    def this(cls) -> 'Process':
        """The current process."""
        host = ''.join(one if one.isalnum() or one in '-_' else '-' for one in socket.gethostname())
        return cls(host or 'host', os.getpid(), _start_of(os.getpid()))

    @classmethod
    def of(cls, text: str) -> Optional['Process']:
        """Parse what :meth:`__str__` returned; None if the format is another one."""
        host, *numbers = text.rsplit('.', 2)
        if not host or len(numbers) != 2 or not all(one.isdigit() for one in numbers):
            return None
        return cls(host, int(numbers[0]), int(numbers[1]))

    def __str__(self) -> str:
        return '.'.join(map(str, self))

    @property
    def is_gone(self) -> Optional[bool]:
        """Whether it has ended; None if it runs on another host."""
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
    """Path under which a process writes a file until it is complete.

    Args:
        path (str): The file.
        writer (Process, optional): The process that writes it. Defaults to None, this process.
    """
    return f'{path}{PART}.{writer or Process.this()}'


def settle(part: str, path: str) -> None:
    """Rename a complete file, or folder of files, to its final name.

    Args:
        part (str): Temporary path.
        path (str): Final path; an existing file or folder is replaced.

    Raises:
        FileNotFoundError: If the part does not exist.
    """
    if os.path.isfile(part):
        with open(part, 'rb+') as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    elif os.path.isdir(part):  # DeepSpeed: every process writes into the folder
        shutil.rmtree(path, ignore_errors=True)
        os.replace(part, path)
    else:
        raise FileNotFoundError(
            f'`{path}` was not saved: its temporary file, `{os.path.basename(part)}`, was removed '
            'by another process; check whether another run, or a clean-up, works in the folder, '
            'and resume from the checkpoint before')


@contextmanager
def whole_or_not(path: str, writer: Optional[Process] = None,
                 needed: Callable[[], int] = lambda: 0) -> Iterator[str]:
    """Context manager to write a file completely or not at all.

    Write to the path that it yields. After the block the file gets its final name. If the block
    raises an error, the unfinished file is removed.

    Args:
        path (str): The file.
        writer (Process, optional): The process that writes it. Defaults to None, this process.
        needed (Callable): Returns the approximate size in bytes, for error messages; 0 if unknown.

    Yields:
        str: The temporary path.

    Raises:
        FileNotFoundError: If nothing was written, or the part was removed.
        OSError: If the disk is full; the message gives the free space and what could be removed.
    """
    part = part_of(path, writer)
    discard(part)
    try:
        yield part
        settle(part, path)
    except OSError as error:
        discard(part)  # before the free space is measured
        if error.errno not in FULL:
            raise
        raise OSError(error.errno, full_disk(path, needed(), error)) from error
    except RuntimeError as error:  # raised by torch's writer
        discard(part)
        if 'PytorchStreamWriter' not in str(error):
            raise
        raise OSError(errno.ENOSPC, full_disk(path, needed(), error)) from error
    finally:
        discard(part)


def full_disk(path: str, needed: int, error: Exception) -> str:
    """Error message for a full disk.

    Args:
        path (str): The file.
        needed (int): Its approximate size in bytes; 0 if unknown.
        error (Exception): The error of the system.
    """
    folder = os.path.dirname(os.path.abspath(path))
    reasons = {errno.EDQUOT: 'the disk quota is exceeded',
               errno.EFBIG: 'the file size limit is exceeded (`ulimit -f`)'}
    why = reasons.get(getattr(error, 'errno', None) or 0, 'the disk is full')
    try:
        free = f'{_size(shutil.disk_usage(folder).free)} are free'
    except OSError:
        free = 'the free space is unknown'
    others = removable(folder, path)
    remedy = (f'{", ".join(others)} could be removed' if others else
              'no older checkpoint is there to remove')
    step = 'raise the limit' if getattr(error, 'errno', None) == errno.EFBIG else 'make room'
    return (f'`{path}` was not saved, because {why}: {free}' +
            (f', about {_size(needed)} are needed' if needed else '') +
            f'; {remedy}. The incomplete file was removed, earlier checkpoints are kept; {step}, '
            'and continue with `--resume`')


def removable(folder: str, path: str, shown: int = 5) -> List[str]:
    """Checkpoints of a folder that are not needed to resume, the largest first, with sizes."""
    kept, sizes = {os.path.basename(path)}, {}
    note = os.path.join(folder, 'last_checkpoint')
    if os.path.isfile(note):  # the last one with finite weights, if newer ones are not finite
        with open(note, errors='replace') as file:
            kept.add(os.path.basename(file.read(4096).strip()))
    # Keep the newest one, too, and files that are not for resuming.
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
    """Remove a part if it exists."""
    if os.path.isdir(part):
        shutil.rmtree(part, ignore_errors=True)
    elif os.path.exists(part):
        os.remove(part)


def remove_abandoned(folder: str) -> None:
    """Remove parts of processes that have ended; those of running processes stay.

    Args:
        folder (str): Folder of checkpoints.
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
        except FileNotFoundError:  # its process has just renamed it
            continue
        if not is_gone:
            who = f'process {process.pid} on {process.host}' if process else 'another process'
            print_log(f'{path} is being written by {who}, and is kept', 'current', logging.WARNING)
