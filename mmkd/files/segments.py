"""How does one process write records that others read at the same time, without a lock?"""
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
"""Ends of the names of a segment's two files."""

OPEN_FILES = 32
"""How many files of records a reader keeps open."""

ENTRY = struct.Struct('<16sQQIII')
"""Of the index: digest of the key, offset and length of the record, the entry's number in its
batch, entries of the batch, checksum of all before it. All entries have one size, so that a damaged
one does not hide those behind it."""

Place = Tuple[str, int, int]
"""Where a record lies: file, offset, length."""


class SegmentWriter:
    """Records that one process has written: a file with the records, and an index of it.

    Nobody else writes into these files, so no writer waits for another one, and one that is killed
    or suspended stops nobody. The index is written after the records are on the disk: what a reader
    finds in the index is whole. What was not finished has no entry.

    Args:
        folder (str): Where the files are made.

    Raises:
        OSError: If they cannot be made.
    """

    def __init__(self, folder: str) -> None:
        host = re.sub(r'\W', '', socket.gethostname())[:16]
        # Names sort by the time of writing: where a key is in two segments, the later one counts.
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
        """Whether the files can still be found under their names."""
        try:
            return all(os.path.samestat(os.fstat(file.fileno()), os.stat(self.stem + end))
                       for file, end in zip(self._files, (ANSWERS, INDEX)))
        except OSError:
            return False

    def write(self, records: Dict[bytes, bytes]) -> Dict[bytes, Place]:
        """Append a batch, all of it or nothing.

        Args:
            records (dict[bytes, bytes]): By digest, 16 bytes.

        Returns:
            dict[bytes, Place]: Where they lie.

        Raises:
            OSError: If they cannot be written; the segment is as it was.
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
    """What the index of a segment says, read as far as it is written.

    Args:
        path (str): The index.

    Attributes:
        damaged (int): Entries that are not as they were written, or point beyond the file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.answers = path[:-len(INDEX)] + ANSWERS
        self.damaged = 0
        self._position = 0

    def news(self) -> Iterator[Tuple[bytes, Place]]:
        """Entries that were not there the last time, by digest; whole batches only.

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
            if count is None:  # the writer is at it, or was killed
                break
            for entry in entries[at:at + max(count, 1)]:
                if count and entry is not None and entry[1] + entry[2] <= size:
                    yield entry[0], (self.answers, entry[1], entry[2])
                else:
                    self.damaged += 1
            at += max(count, 1)
        self._position += at * ENTRY.size


class SegmentReader:
    """Bytes of records, by their places; a few of the files are kept open."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._files: OrderedDict[str, FileIO] = OrderedDict()

    def read(self, place: Place) -> bytearray:
        """The record at a place.

        Raises:
            Damaged: If the file ends before it does.
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
        """Close its files. They are opened anew where they are needed."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _file(self, path: str) -> FileIO:
        if self._process != os.getpid():  # a fork shares positions in files with its parent
            self._process, self._files = os.getpid(), OrderedDict()
        if path in self._files:
            self._files.move_to_end(path)
        else:
            self._files[path] = FileIO(path)
        if len(self._files) > OPEN_FILES:
            self._files.popitem(last=False)[1].close()
        return self._files[path]


def files_in(folder: str, ends: Tuple[str, ...]) -> List[str]:
    """Paths of the files in a folder whose names end so, sorted; [] if there is no folder.

    Raises:
        ValueError: If the folder cannot be read.
    """
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ValueError(f'`{folder}` cannot be read: {error}; give another folder, or '
                         'the right to read it') from error
    return [os.path.join(folder, name) for name in names if name.endswith(ends)]


Entry = Optional[Tuple[bytes, int, int, int, int]]


def _entry(content: bytes) -> Entry:
    *fields, checksum = ENTRY.unpack(content)
    return tuple(fields) if zlib.crc32(content[:-4]) == checksum else None  # type: ignore


def _batch_at(entries: List[Entry], start: int) -> Optional[int]:
    """Entries of the batch that begins here; 0 if none does, None if it is not whole yet."""
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
