"""How does one process write records that others read at the same time, without locks?"""
import os
import re
import secrets
import socket
import struct
import time
import zlib
from collections import OrderedDict
from io import FileIO
from typing import Dict, Iterator, List, Optional, Tuple

from .records import Damaged

ANSWERS, INDEX = '.answers', '.index'
"""Suffixes of the two files of a segment."""

OPEN_FILES = 32
"""Number of files of records that a reader keeps open."""

ENTRY = struct.Struct('<16sQQIII')
"""Entry of an index: digest of the key, offset and length of the record, number of the entry in its
batch, size of the batch, checksum of the fields before. All entries have the same size, so that
those after a damaged one can be read."""

Place = Tuple[str, int, int]
"""Position of a record: file, offset, length."""


class SegmentWriter:
    """Writes the records of one process: a file of records, and its index.

    No other process writes into these files, so a writer waits for no other one, even if that is
    killed or suspended. The index is written after the records are on disk, so every record in the
    index is complete, and an unfinished one has no entry.

    Args:
        folder (str): Where the files are created.

    Raises:
        OSError: If they cannot be created.
    """

    def __init__(self, folder: str) -> None:
        host = re.sub(r'\W', '', socket.gethostname())[:16]
        # Names sort by time of creation: if a key is in two segments, the later one counts.
        name = f'{time.time_ns():016x}-{host}-{os.getpid()}-{secrets.token_hex(4)}'
        self.stem = os.path.join(folder, name)
        self.process = os.getpid()
        self._files: List[FileIO] = []
        try:
            for end in (ANSWERS, INDEX):
                self._files.append(FileIO(self.stem + end, 'x'))
        except OSError:
            self.close()
            raise
        self._sizes = [0, 0]

    def is_there(self) -> bool:
        """Whether the files still exist under their names."""
        try:
            return all(os.path.samestat(os.fstat(file.fileno()), os.stat(self.stem + end))
                       for file, end in zip(self._files, (ANSWERS, INDEX)))
        except OSError:
            return False

    def write(self, records: Dict[bytes, bytes]) -> Dict[bytes, Place]:
        """Append a batch, all of it or nothing.

        Args:
            records (dict[bytes, bytes]): Encoded records by digest of 16 bytes.

        Returns:
            dict[bytes, Place]: Their positions.

        Raises:
            OSError: If they cannot be written; the segment is unchanged.
        """
        places: Dict[bytes, Place] = {}
        entries = []
        end = self._sizes[0]
        for number, (digest, record) in enumerate(records.items()):
            head = ENTRY.pack(digest, end, len(record), number, len(records), 0)[:-4]
            entries.append(head + zlib.crc32(head).to_bytes(4, 'little'))
            places[digest] = (self.stem + ANSWERS, end, len(record))
            end += len(record)
        try:
            for file, content in zip(self._files, (b''.join(records.values()), b''.join(entries))):
                _write(file, content)
                if file is self._files[0]:
                    os.fsync(file.fileno())
        except OSError:
            for file, size in zip(self._files, self._sizes):
                file.truncate(size)
                file.seek(size)
            raise
        self._sizes = [end, self._sizes[1] + ENTRY.size * len(entries)]
        return places

    def close(self) -> None:
        for file in self._files:
            file.close()
        self._files = []


class SegmentIndex:
    """Reads the index of a segment while it grows.

    Args:
        path (str): The index.

    Attributes:
        damaged (int): Number of entries with a wrong checksum, or that point beyond the file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.answers = path[:-len(INDEX)] + ANSWERS
        self.damaged = 0
        self._position = 0

    def news(self) -> Iterator[Tuple[bytes, Place]]:
        """Digests and positions added since the last call; complete batches only.

        Raises:
            OSError: If the files cannot be read.
        """
        if os.path.getsize(self.path) < self._position + ENTRY.size:
            return
        with open(self.path, 'rb') as file:
            file.seek(self._position)
            content = file.read()
        size = os.path.getsize(self.answers)
        entries = [_entry(content[start:start + ENTRY.size])
                   for start in range(0, len(content) // ENTRY.size * ENTRY.size, ENTRY.size)]
        at = 0
        while at < len(entries):
            count = _batch_at(entries, at)
            if count is None:  # the writer has not finished it, or was killed
                break
            for entry in entries[at:at + max(count, 1)]:
                if count and entry is not None and entry[1] + entry[2] <= size:
                    yield entry[0], (self.answers, entry[1], entry[2])
                else:
                    self.damaged += 1
            at += max(count, 1)
        self._position += at * ENTRY.size


class SegmentReader:
    """Reads records by their positions; keeps some of the files open."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._files: OrderedDict[str, FileIO] = OrderedDict()

    def read(self, place: Place) -> bytearray:
        """The encoded record at a position.

        Raises:
            Damaged: If the file is too short.
            OSError: If the file cannot be read.
        """
        path, offset, length = place
        content = bytearray(length)
        file = self._file(path)
        file.seek(offset)
        filled = 0
        while filled < length:
            count = file.readinto(memoryview(content)[filled:])
            if not count:
                raise Damaged(f'it ends after {offset + filled} bytes')
            filled += count
        return content

    def close(self) -> None:
        """Close the files. They are opened again when needed."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _file(self, path: str) -> FileIO:
        if self._process != os.getpid():  # a forked process shares file positions with its parent
            self._process, self._files = os.getpid(), OrderedDict()
        if path in self._files:
            self._files.move_to_end(path)
        else:
            self._files[path] = FileIO(path)
        if len(self._files) > OPEN_FILES:
            self._files.popitem(last=False)[1].close()
        return self._files[path]


def files_in(folder: str, ends: Tuple[str, ...]) -> List[str]:
    """Paths of the files in a folder with one of the suffixes, sorted; [] if there is no folder.

    Raises:
        ValueError: If the folder cannot be read.
    """
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ValueError(f'`{folder}` cannot be read: {error}; use another folder, or change its '
                         'permissions') from error
    return [os.path.join(folder, name) for name in names if name.endswith(ends)]


Entry = Optional[Tuple[bytes, int, int, int, int]]


def _entry(content: bytes) -> Entry:
    *fields, checksum = ENTRY.unpack(content)
    return tuple(fields) if zlib.crc32(content[:-4]) == checksum else None  # type: ignore


def _batch_at(entries: List[Entry], start: int) -> Optional[int]:
    """Size of the batch that begins here; 0 if none begins, None if it is not complete yet."""
    first = entries[start]
    if first is None or first[3] != 0:
        return 0
    count = first[4]
    for number, entry in enumerate(entries[start:start + count]):
        if entry is None or entry[3:] != (number, count):
            return 0
    return count if start + count <= len(entries) else None


def _write(file: FileIO, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[file.write(view):]
