"""Where was a file looked for that does not exist, and which files have a name like it?"""
import os
from difflib import get_close_matches

MOST = 2000
"""Number of files in a folder up to which names are compared: 0.1 seconds."""


def looked_for(path: str) -> str:
    """The parenthesis of a message about a missing file.

    Example:
        >>> looked_for('no_folder/teacher.pt').startswith('(looked from /')
        True
    """
    return f'(looked from {os.getcwd()}{closest_in_folder(path)})'


def closest_in_folder(path: str) -> str:
    """The files whose names are like that of a missing one, as a part of a message; '' if none.

    Where there is a folder in place of a file, or the reverse, it says that.
    """
    if not path:
        return ''
    path = os.path.normpath(os.path.expanduser(path))
    if os.path.exists(path):
        return f'; it is a {"folder" if os.path.isdir(path) else "file"}'
    folder, name = os.path.split(path)
    try:
        siblings = sorted(os.listdir(folder or '.'))
    except OSError:
        return ''
    if len(siblings) > MOST:
        return ''
    nearest = get_close_matches(name, siblings, n=3)
    return f'; closest in its folder: {", ".join(nearest)}' if nearest else ''
