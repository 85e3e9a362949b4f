"""How are a teacher's answers kept on disk, so that none is lost, mixed up or read half written?"""
import hashlib
import logging
import os
from contextlib import suppress
from typing import Any, Dict, List, Optional, Sequence

from mmengine.logging import print_log

from .description import Description, Identity
from .records import PRECISIONS, Damaged, Record, packed, unpacked
from .segments import (
    ANSWERS,
    INDEX,
    Place,
    SegmentIndex,
    SegmentReader,
    SegmentWriter,
    files_in,
)

__all__ = ['PRECISIONS', 'AnswerStore', 'Full', 'Record', 'packed', 'unpacked']

Key = bytes
"""The class below has a property of that name."""


class Full(Exception):
    """Nothing more can be written."""


class AnswerStore:
    """Answers by key, in a folder that several processes may read and write at once.

    Each process that writes has files of its own there (:mod:`mmkd.files.segments`), so nobody
    waits for a lock, and a process that is killed leaves whole records. Reading needs no right to
    write. Every record, every entry of an index and the description have a checksum. What is
    damaged is not there: it is left out with a warning, and can be put anew.

    Where the folder is removed while the store is open, what was in it is forgotten, and the next
    :meth:`put` makes it anew.

    Args:
        folder (str): Where it lies; made if it is not there.
        description (dict): What the answers depend on beside the key: strings by name.
        precision (str): 'float32'; 'float16', a relative error of 5e-4, of numbers below 6e-5 an
            absolute one of 3e-8; or 'uint8', in each channel an error of at most 1/510 of its
            range. Defaults to 'float16'.

    Raises:
        ValueError: If the folder cannot be opened, or holds the answers of something else; the
            message names what differs.

    Attributes:
        folder (str): The real path of the folder.
        damaged (int): Records and entries that were found damaged.
    """

    def __init__(self, folder: str, description: Dict[str, Any],
                 precision: str = 'float16') -> None:
        try:
            self.folder = os.path.realpath(folder)
        except ValueError as error:  # of characters that no system takes
            raise ValueError(f'{folder!r} cannot be the name of a folder: {error}; give another '
                             'one') from error
        self.precision = precision
        self.damaged = 0
        self._description = Description(self.folder, description, precision)
        self._places: Dict[Key, Place] = {}
        self._indexes: Dict[str, SegmentIndex] = {}
        self._reader = SegmentReader()
        self._writer: Optional[SegmentWriter] = None
        self._identity: Optional[Identity] = self._description.agree()
        self._read_indexes()

    def get(self, key: bytes) -> Optional[Record]:
        """Tensors and what was put beside them, or None."""
        return self.find([key])[0]

    def find(self, keys: Sequence[bytes]) -> List[Optional[Record]]:
        """Several records; None for what is not there, or is damaged."""
        digests = [_digest(key) for key in keys]
        if self._identity != self._description.identity() or any(
                digest not in self._places for digest in digests):
            with suppress(ValueError):  # another teacher's by now, which `put` says
                self._refresh()
        return [self._record(digest) for digest in digests]

    def put(self, records: Dict[bytes, Record]) -> None:
        """Keep several records, all or none of them.

        Raises:
            Full: If the disk is full, the folder is read-only, or belongs to something else by now;
                what is there stays as it is.
        """
        ready = {_digest(key): packed(tensors, beside, self.precision)
                 for key, (tensors, beside) in records.items()}
        try:
            self._refresh()
            if self._identity is None:
                self._identity = self._description.agree()
            if self._writer is None or self._writer.process != os.getpid():
                self._writer = SegmentWriter(self.folder)
            self._places.update(self._writer.write(ready))
        except (OSError, ValueError) as error:
            raise Full(str(error)) from error

    def __len__(self) -> int:
        return len(self._places)

    @property
    def bytes(self) -> int:
        """Size on disk."""
        size = 0
        for path in files_in(self.folder, (ANSWERS, INDEX)):
            with suppress(OSError):
                size += os.path.getsize(path)
        return size

    def close(self) -> None:
        """Close its files. They are opened anew where they are needed."""
        self._reader.close()
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    # --- what others do to the folder -----------------------------------------------------------

    def _refresh(self) -> None:
        """Take up what other processes have written since, and notice a folder that has gone."""
        if self._identity is not None and (
                self._identity != self._description.identity()
                or (self._writer is not None and not self._writer.is_there())):
            print_log(f'{self.folder} was removed or replaced while it was in use; the answers in '
                      'it are forgotten, and it is filled anew', 'current', logging.WARNING)
            self._identity = None
            self.close()
            self._places.clear()
            self._indexes.clear()
        if self._identity is None and self._description.exists():
            self._identity = self._description.agree()
        if self._identity is not None:
            self._read_indexes()

    def _read_indexes(self) -> None:
        for path in files_in(self.folder, (INDEX, )):
            index = self._indexes.setdefault(path, SegmentIndex(path))
            before = index.damaged
            try:
                self._places.update(index.news())
            except FileNotFoundError:  # its other half is not there yet, or not any more
                continue
            except OSError as error:
                raise ValueError(f'`{path}` cannot be read: {error}; give another folder, or '
                                 'remove this one') from error
            if index.damaged > before:
                self._warn(index.damaged - before, index.answers,
                           'entries in its index are not as they were written, or point beyond its '
                           'end')

    def _warn(self, count: int, path: str, why: str) -> None:
        if not self.damaged:
            print_log(f'`{path}` is damaged ({why}): what it should hold is left out, and the '
                      'teacher is asked anew. If this comes again, look at the disk; to be rid of '
                      f'the file, remove it and `{path[:-len(ANSWERS)]}{INDEX}`', 'current',
                      logging.WARNING)
        self.damaged += count

    # --- records --------------------------------------------------------------------------------

    def _record(self, digest: Key) -> Optional[Record]:
        place = self._places.get(digest)
        if place is None:
            return None
        try:
            return unpacked(self._reader.read(place), place[0])
        except (OSError, ValueError) as error:
            del self._places[digest]
            if not isinstance(error, FileNotFoundError):
                self._warn(1, place[0], str(error) if not isinstance(error, Damaged)
                           else 'a checksum does not agree, or it is cut off')
            return None


def _digest(key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=16).digest()
