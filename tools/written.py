"""Write files that a user may edit; an edited file is not overwritten."""
import hashlib
import os
import re

from mmkd.files.parts import part_of

MARK = '# Written by tools/{tool}. Edit it as you like: it is then kept as it is. Digest: '
ANY_MARK = re.compile(r'# Written by tools/\S+ .*Digest: ([0-9a-f]{16})\n')


def check_edited(path: str, how_to_run: str, overwrite: bool) -> None:
    """Check that a file has not been edited since a tool wrote it.

    Args:
        path (str): The file; it may not exist.
        how_to_run (str): The command that runs the edited file.
        overwrite (bool): Whether an edited file may be overwritten.

    Raises:
        ValueError: If it has been edited.
    """
    if not overwrite and _is_edited(path, None):
        raise _kept(path, how_to_run)


def write_kept(path: str, text: str, tool: str, how_to_run: str, overwrite: bool) -> None:
    """Write a file in one step, with a digest to detect later edits; an edited file is kept.

    Args:
        path (str): Path of the file.
        text (str): Its content.
        tool (str): Name of the tool, for the first line.
        how_to_run (str): The command that runs the edited file.
        overwrite (bool): Whether an edited file may be overwritten.

    Raises:
        ValueError: If it has been edited.
    """
    if not overwrite and _is_edited(path, text):
        raise _kept(path, how_to_run)
    os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
    # Processes of several machines write the same file, and none may read an incomplete one.
    part = part_of(path)
    with open(part, 'w') as file:
        file.write(f'{MARK.format(tool=tool)}{_digest(text)}\n{text}')
    os.replace(part, path)


def _is_edited(path: str, text: 'str | None') -> bool:
    """Whether a file was edited. Files of earlier versions have no digest and must equal the text
    that would be written."""
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
    return ValueError(f'{path} was edited after it was written, and is kept; run it by '
                      f'`{how_to_run}`, or overwrite it by --overwrite')
