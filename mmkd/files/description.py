"""What was a store of answers made from, and is that what is asked of it now?"""
import json
import os
import secrets
import zlib
from typing import Any, Dict, Optional, Tuple

from .segments import ANSWERS, INDEX, files_in

FORMAT = 2
"""Of the files; another one is refused. 1 was one LMDB file."""

DESCRIPTION = 'description.json'
"""File that says what the store was made from."""

Identity = Tuple[int, int, int]
"""What tells the file of a description from one that took its place: device, inode, time."""


class Description:
    """The file in a store's folder that says what its answers depend on.

    Args:
        folder (str): Of the store.
        content (dict): What the answers depend on beside the key: strings by name.
        precision (str): In which they are kept.
    """

    def __init__(self, folder: str, content: Dict[str, Any], precision: str) -> None:
        self.folder = folder
        self.path = os.path.join(folder, DESCRIPTION)
        self.content = dict(content, format=FORMAT, stored_as=precision)

    def exists(self) -> bool:
        """Whether the file is there."""
        return os.path.exists(self.path)

    def identity(self) -> Optional[Identity]:
        """Of the file that is there now; None if there is none."""
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_mtime_ns

    def agree(self) -> Identity:
        """Write the file, or compare it with what is there.

        Raises:
            ValueError: If it cannot be read or written, or is another one.
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
            raise ValueError(f'`{self.folder}` is no store of answers, or cannot be opened: '
                             f'{error}; give another folder') from error
        self._compare(_described(content, self.path))
        assert identity is not None
        return identity

    def _check_empty(self) -> None:
        if os.path.exists(os.path.join(self.folder, 'data.mdb')):
            raise ValueError(
                f'`{self.folder}` is no store of answers of this version: `data.mdb` in it is an '
                'LMDB file, as earlier versions of mmkd made it, or of something else; give '
                'another folder, or remove this one and fill it anew')
        if files_in(self.folder, (ANSWERS, INDEX)):
            raise ValueError(
                f'`{self.folder}` holds answers, but not the file `{DESCRIPTION}` that says whose '
                'they are; remove the folder and fill it anew, or give another one')

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
                os.link(part, self.path)  # where two begin at once, the first one's counts
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
            raise ValueError(f'`{self.folder}` holds the answers of another teacher: {shown}; give '
                             'another folder, or remove this one')


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
