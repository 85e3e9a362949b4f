"""What do the outputs in a store depend on, and does that match the current run?"""
import json
import os
import secrets
import zlib
from typing import Any, Dict, Optional, Tuple

from .segments import ANSWERS, INDEX, files_in

OF_CODE = ('format', 'mmkd', 'reading', 'family', 'package')
"""Names in a description that identify the code that made the outputs."""

FORMAT = 2
"""Version of the file format; others are refused. 1 was an LMDB file."""

DESCRIPTION = 'description.json'
"""Name of the file."""

Identity = Tuple[int, int, int]
"""Device, inode and modification time, which differ if the file was replaced."""


class Description:
    """The file in a store's folder that states what its records depend on.

    Args:
        folder (str): Folder of the store.
        content (dict): What the records depend on in addition to their keys: strings by name.
        precision (str): Precision in which the records are stored.
    """

    def __init__(self, folder: str, content: Dict[str, Any], precision: str) -> None:
        self.folder = folder
        self.path = os.path.join(folder, DESCRIPTION)
        self.content = dict(content, format=FORMAT, stored_as=precision)

    def at(self, folder: str) -> 'Description':
        """The same content, for another folder."""
        return Description(folder, self.content, self.content['stored_as'])

    def exists(self) -> bool:
        """Whether the file exists."""
        return os.path.exists(self.path)

    def identity(self) -> Optional[Identity]:
        """Identity of the file that exists now; None if there is none."""
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_mtime_ns

    def agree(self) -> Identity:
        """Write the file, or compare the existing one.

        Returns:
            Identity: That of the file.

        Raises:
            ValueError: If it cannot be read or written, or differs.
        """
        try:
            os.makedirs(self.folder, exist_ok=True)
            if not self.exists():
                self._check_empty()
                self._write()
            identity = self.identity()
            with open(self.path, 'rb') as file:
                content = file.read(1 << 20)
        except OSError as error:
            raise ValueError(f'`{self.folder}` is not a cache of teacher outputs, or cannot be '
                             f'opened: {error}; use another folder') from error
        self._compare(_described(content, self.path))
        assert identity is not None
        return identity

    def _check_empty(self) -> None:
        if os.path.exists(os.path.join(self.folder, 'data.mdb')):
            raise ValueError(
                f'`{self.folder}` is not a cache of this version of mmkd: it contains the LMDB '
                'file `data.mdb`, which earlier versions wrote; use another folder, or remove this '
                'one and fill it again')
        if files_in(self.folder, (ANSWERS, INDEX)):
            raise ValueError(
                f'`{self.folder}` contains cached outputs, but not the file `{DESCRIPTION}` that '
                'describes their teacher; remove the folder and fill it again, or use another one')

    def _write(self) -> None:
        part = f'{self.path}.{os.getpid()}-{secrets.token_hex(4)}.part'
        text = json.dumps(self.content, sort_keys=True)
        try:
            with open(part, 'w') as file:
                json.dump(dict(description=self.content, checksum=zlib.crc32(text.encode())),
                          file, indent=1, sort_keys=True)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(part, self.path)  # if two processes start at once, the first one wins
            except FileExistsError:
                pass
            except OSError:  # a file system without links
                if not self.exists():
                    os.replace(part, self.path)
        finally:
            if os.path.exists(part):
                os.remove(part)

    def _compare(self, before: Dict[str, Any]) -> None:
        now = self.content
        names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        if names:
            shown = '; '.join(f'{name} {_shown(before.get(name))}, now {_shown(now.get(name))}'
                              for name in names)
            whose = ('outputs written by another version of the code'
                     if set(names) <= set(OF_CODE) else 'the outputs of another teacher')
            raise ValueError(f'`{self.folder}` contains {whose}: {shown}; use another folder, or '
                             'remove this one')


def _described(content: bytes, path: str) -> Dict[str, Any]:
    """Decode the content of the file.

    Raises:
        ValueError: If it is damaged, or was not written by mmkd.
    """
    try:
        found = json.loads(content)
        description = found['description']
        text = json.dumps(description, sort_keys=True)
        is_whole = isinstance(description, dict) and found['checksum'] == zlib.crc32(text.encode())
    except (ValueError, TypeError, KeyError, RecursionError):
        is_whole = False
    if not is_whole:
        raise ValueError(f'`{path}` is damaged, or is not the description of a cache; remove the '
                         'folder and fill it again, or use another one')
    return description


def _shown(value: Any) -> str:
    text = 'none' if value is None else str(value)
    return text if len(text) <= 24 else f'{text[:12]}…'
