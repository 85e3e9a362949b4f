"""How are a teacher's outputs stored on disk, so that none is lost, mixed up or incomplete?"""
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
"""The class below has a property called ``bytes``."""


class Full(Exception):
    """Nothing more can be written."""


class AnswerStore:
    """Records by key, in a folder that several processes may read and write at the same time.

    Each writing process has its own files (:mod:`mmkd.files.segments`), so none waits for a lock,
    and a process that is killed leaves complete records. Reading needs no write permission. Every
    record, every entry of an index and the description have a checksum. A damaged record counts as
    missing: it is skipped with a warning, and can be stored again.

    If the folder is removed while the store is open, its records are forgotten, and the next
    :meth:`put` creates it again.

    Args:
        folder (str): The folder; created if it does not exist.
        description (dict): What the records depend on in addition to the key: strings by name.
        precision (str): 'float32'; 'float16', with a relative error of 5e-4, or an absolute error
            of 3e-8 for values below 6e-5; or 'uint8', with an error of at most 1/510 of the range
            of each channel. Defaults to 'float16'.

    Raises:
        ValueError: If the folder cannot be opened, or holds records with another description; the
            message names the differences.

    Attributes:
        folder (str): The real path of the folder.
        description (Description): What the records depend on.
        damaged (int): Number of damaged records and entries found so far.
    """

    def __init__(self, folder: str, description: Dict[str, Any],
                 precision: str = 'float16') -> None:
        try:
            self.folder = os.path.realpath(folder)
        except ValueError as error:  # characters that are not allowed in a path
            raise ValueError(f'{folder!r} is not a valid folder name: {error}; use another '
                             'one') from error
        self.precision = precision
        self.damaged = 0
        self.description = Description(self.folder, description, precision)
        self._places: Dict[Key, Place] = {}
        self._indexes: Dict[str, SegmentIndex] = {}
        self._reader = SegmentReader()
        self._writer: Optional[SegmentWriter] = None
        self._identity: Optional[Identity] = self.description.agree()
        self._read_indexes()

    def get(self, key: bytes) -> Optional[Record]:
        """One record: tensors and the dict stored with them, or None."""
        return self.find([key])[0]

    def find(self, keys: Sequence[bytes]) -> List[Optional[Record]]:
        """Several records; None for those that are missing or damaged."""
        digests = [_digest(key) for key in keys]
        if self._identity != self.description.identity() or any(
                digest not in self._places for digest in digests):
            with suppress(ValueError):  # the folder of another teacher; `put` raises the error
                self.refresh()
        return [self._record(digest) for digest in digests]

    def put(self, records: Dict[bytes, Record]) -> None:
        """Store several records, all or none of them.

        Raises:
            Full: If the disk is full, the folder is read-only, or it now has another description.
                Existing records stay as they are.
        """
        ready = {_digest(key): packed(tensors, beside, self.precision)
                 for key, (tensors, beside) in records.items()}
        try:
            self.refresh()
            if self._identity is None:
                self._identity = self.description.agree()
            if self._writer is None or self._writer.process != os.getpid():
                self._writer = SegmentWriter(self.folder)
            self._places.update(self._writer.write(ready))
        except (OSError, ValueError) as error:
            raise Full(str(error)) from error

    def __len__(self) -> int:
        return len(self._places)

    @property
    def bytes(self) -> int:
        """Size on disk in bytes."""
        size = 0
        for path in files_in(self.folder, (ANSWERS, INDEX)):
            with suppress(OSError):
                size += os.path.getsize(path)
        return size

    def close(self) -> None:
        """Close the files. They are opened again when needed."""
        self._reader.close()
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    # --- changes by other processes -------------------------------------------------------------

    def refresh(self) -> None:
        """Read what other processes have written, and detect a removed or replaced folder."""
        if self._identity is not None and (
                self._identity != self.description.identity()
                or (self._writer is not None and not self._writer.is_there())):
            print_log(f'{self.folder} was removed or replaced while it was in use; it is filled '
                      'again from the beginning', 'current', logging.WARNING)
            self._identity = None
            self.close()
            self._places.clear()
            self._indexes.clear()
        if self._identity is None and self.description.exists():
            self._identity = self.description.agree()
        if self._identity is not None:
            self._read_indexes()

    def _read_indexes(self) -> None:
        for path in files_in(self.folder, (INDEX, )):
            index = self._indexes.setdefault(path, SegmentIndex(path))
            before = index.damaged
            try:
                self._places.update(index.news())
            except FileNotFoundError:  # its file of records does not exist yet, or no longer
                continue
            except OSError as error:
                raise ValueError(f'`{path}` cannot be read: {error}; use another folder, or remove '
                                 'this one') from error
            if index.damaged > before:
                self._warn(index.damaged - before, index.answers,
                           'entries in its index are not as they were written, or point beyond its '
                           'end')

    def _warn(self, count: int, path: str, why: str) -> None:
        if not self.damaged:
            print_log(f'`{path}` is damaged ({why}): damaged outputs are skipped, and the teacher '
                      'computes them again. If this happens again, check the disk; to discard '
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
                           else 'a checksum does not match, or the file is truncated')
            return None


def _digest(key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=16).digest()
