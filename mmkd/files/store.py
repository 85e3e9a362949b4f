"""How are a teacher's answers kept on disk, so that none is lost, mixed up or read half written?"""
import hashlib
import json
import logging
import os
import secrets
import zlib
from collections import OrderedDict
from contextlib import suppress
from io import FileIO
from typing import Any, Dict, List, Optional, Sequence, Tuple

from mmengine.logging import print_log

from .records import PRECISIONS, Damaged, Record, packed, unpacked
from .segments import ANSWERS, INDEX, Place, SegmentIndex, SegmentWriter

__all__ = ['PRECISIONS', 'AnswerStore', 'Full', 'Record', 'packed', 'unpacked']

FORMAT = 2
"""Of the files; another one is refused. 1 was one LMDB file."""

OF_CODE = ('format', 'mmkd', 'reading', 'family', 'package')
"""Names in a description that tell which code has made the answers."""

DESCRIPTION = 'description.json'
"""File that says what the store was made from."""

OPEN_FILES = 32
"""How many files of records are kept open."""


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
        self._process = os.getpid()
        self._description = dict(description, format=FORMAT, stored_as=precision)
        self._places: Dict[Key, Place] = {}
        self._indexes: Dict[str, SegmentIndex] = {}
        self._files: OrderedDict[str, FileIO] = OrderedDict()
        self._writer: Optional[SegmentWriter] = None
        self._identity: Optional[Tuple[int, int, int]] = self._describe()
        self._read_indexes()

    def get(self, key: bytes) -> Optional[Record]:
        """Tensors and what was put beside them, or None."""
        return self.find([key])[0]

    def find(self, keys: Sequence[bytes]) -> List[Optional[Record]]:
        """Several records; None for what is not there, or is damaged."""
        digests = [_digest(key) for key in keys]
        if self._identity != self._identity_now() or any(
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
                self._identity = self._describe()
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
        for path in self._listed((ANSWERS, INDEX)):
            with suppress(OSError):
                size += os.path.getsize(path)
        return size

    def close(self) -> None:
        """Close its files. They are opened anew where they are needed."""
        for file in self._files.values():
            file.close()
        self._files.clear()
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    # --- what others do to the folder -----------------------------------------------------------

    def _refresh(self) -> None:
        """Take up what other processes have written since, and notice a folder that has gone."""
        if self._identity is not None and (
                self._identity != self._identity_now()
                or (self._writer is not None and not self._writer.is_there())):
            print_log(f'{self.folder} was removed or replaced while it was in use; the answers in '
                      'it are forgotten, and it is filled anew', 'current', logging.WARNING)
            self._identity = None
            self.close()
            self._places.clear()
            self._indexes.clear()
        if self._identity is None and os.path.exists(self._path):
            self._identity = self._describe()
        if self._identity is not None:
            self._read_indexes()

    @property
    def _path(self) -> str:
        return os.path.join(self.folder, DESCRIPTION)

    def _identity_now(self) -> Optional[Tuple[int, int, int]]:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_mtime_ns

    def _listed(self, ends: Tuple[str, ...]) -> List[str]:
        try:
            names = sorted(os.listdir(self.folder))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ValueError(f'`{self.folder}` cannot be read: {error}; give another folder, or '
                             'the right to read it') from error
        return [os.path.join(self.folder, name) for name in names if name.endswith(ends)]

    def _read_indexes(self) -> None:
        for path in self._listed((INDEX, )):
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
        path, offset, length = place
        try:
            content = bytearray(length)
            file = self._file(path)
            file.seek(offset)
            filled = 0
            while filled < length:
                count = file.readinto(memoryview(content)[filled:])
                if not count:
                    raise Damaged(f'it ends after {offset + filled} bytes')
                filled += count
            return unpacked(content, path)
        except (OSError, ValueError) as error:
            del self._places[digest]
            if not isinstance(error, FileNotFoundError):
                self._warn(1, path, str(error) if not isinstance(error, Damaged)
                           else 'a checksum does not agree, or it is cut off')
            return None

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

    # --- the description ------------------------------------------------------------------------

    def _describe(self) -> Tuple[int, int, int]:
        """Write the description, or compare it with what is there.

        Raises:
            ValueError: If it cannot be read or written, or is another one.
        """
        try:
            os.makedirs(self.folder, exist_ok=True)
            if not os.path.exists(self._path):
                self._check_empty()
                self._write_description()
            identity = self._identity_now()
            with open(self._path, 'rb') as file:
                content = file.read(1 << 20)
        except OSError as error:
            raise ValueError(f'`{self.folder}` is no store of answers, or cannot be opened: '
                             f'{error}; give another folder') from error
        self._compare(_described(content, self._path))
        assert identity is not None
        return identity

    def _check_empty(self) -> None:
        if os.path.exists(os.path.join(self.folder, 'data.mdb')):
            raise ValueError(
                f'`{self.folder}` is no store of answers of this version: `data.mdb` in it is an '
                'LMDB file, as earlier versions of mmkd made it, or of something else; give '
                'another folder, or remove this one and fill it anew')
        if self._listed((ANSWERS, INDEX)):
            raise ValueError(
                f'`{self.folder}` holds answers, but not the file `{DESCRIPTION}` that says whose '
                'they are; remove the folder and fill it anew, or give another one')

    def _write_description(self) -> None:
        part = f'{self._path}.{os.getpid()}-{secrets.token_hex(4)}.part'
        text = json.dumps(self._description, sort_keys=True)
        try:
            with open(part, 'w') as file:
                json.dump(dict(description=self._description, checksum=zlib.crc32(text.encode())),
                          file, indent=1, sort_keys=True)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(part, self._path)  # where two begin at once, the first one's counts
            except FileExistsError:
                pass
            except OSError:  # a file system without links
                if not os.path.exists(self._path):
                    os.replace(part, self._path)
        finally:
            if os.path.exists(part):
                os.remove(part)

    def _compare(self, before: Dict[str, Any]) -> None:
        now = self._description
        names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        if names:
            shown = '; '.join(f'{name} {_shown(before.get(name))}, now {_shown(now.get(name))}'
                              for name in names)
            whose = ('answers that another version of the code has made'
                     if set(names) <= set(OF_CODE) else 'the answers of another teacher')
            raise ValueError(f'`{self.folder}` holds {whose}: {shown}; give another folder, or '
                             'remove this one')


def _digest(key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=16).digest()


def _described(content: bytes, path: str) -> Dict[str, Any]:
    """What a description says.

    Raises:
        ValueError: If it is damaged, or none of mmkd's.
    """
    try:
        found = json.loads(content)
        description = found['description']
        text = json.dumps(description, sort_keys=True)
        is_whole = isinstance(description, dict) and found['checksum'] == zlib.crc32(text.encode())
    except (ValueError, TypeError, KeyError, RecursionError):
        is_whole = False
    if not is_whole:
        raise ValueError(f'`{path}` is damaged, or no description of a store of answers; remove '
                         'the folder and fill it anew, or give another one')
    return description


def _shown(value: Any) -> str:
    text = 'none' if value is None else str(value)
    return text if len(text) <= 24 else f'{text[:12]}…'
