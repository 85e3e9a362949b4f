"""Files that a tool writes and a user may edit: an edited one is never written over."""
import hashlib
import os
import re

MARK = '# Written by tools/{tool}. Edit it as you like: it is then kept as it is. Digest: '
ANY_MARK = re.compile(r'# Written by tools/\S+ .*Digest: ([0-9a-f]{16})\n')


def check_edited(path: str, how_to_run: str, overwrite: bool) -> None:
    """Refuse to go on where a file has been edited since a tool wrote it.

    Args:
        path (str): The file; it need not be there.
        how_to_run (str): The command that takes the edited file.
        overwrite (bool): Whether it may be lost.

    Raises:
        ValueError: If it has been edited.
    """
    if not overwrite and _is_edited(path, None):
        raise _kept(path, how_to_run)


def write_kept(path: str, text: str, tool: str, how_to_run: str, overwrite: bool) -> None:
    """Write a file whole, with a digest by which an edit is noticed; an edited one stays.

    Args:
        path (str): Of the file.
        text (str): Its content.
        tool (str): Name of the tool, for the first line.
        how_to_run (str): The command that takes the file where it was edited.
        overwrite (bool): Whether an edited file may be lost.

    Raises:
        ValueError: If it has been edited.
    """
    if not overwrite and _is_edited(path, text):
        raise _kept(path, how_to_run)
    os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
    # Several processes write the same; none may read half of it.
    part = f'{path}.{os.getpid()}'
    with open(part, 'w') as file:
        file.write(f'{MARK.format(tool=tool)}{_digest(text)}\n{text}')
    os.replace(part, path)


def _is_edited(path: str, text: 'str | None') -> bool:
    """Without a digest, as earlier versions wrote files, all depends on what would be written."""
    if not os.path.isfile(path):
        return False
    with open(path) as file:
        found = file.read()
    mark = ANY_MARK.match(found)
    if mark:
        return _digest(found[mark.end():]) != mark.group(1)
    return text is not None and found != text


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _kept(path: str, how_to_run: str) -> ValueError:
    return ValueError(f'{path} has been edited since it was written, and is kept as it is; run it '
                      f'by `{how_to_run}`, or write it anew by --overwrite')
