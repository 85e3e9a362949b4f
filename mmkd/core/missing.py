"""Where was a file looked for that does not exist, and which files have a name like it?"""
import os
from difflib import get_close_matches


def looked_for(path: str) -> str:
    """The parenthesis of a message about a missing file.

    Example:
        >>> looked_for('no_folder/teacher.pt').startswith('(looked from /')
        True
    """
    return f'(looked from {os.getcwd()}{closest_in_folder(path)})'


def closest_in_folder(path: str) -> str:
    """The files whose names are like that of a missing one, as a part of a message; '' if none.

    Where a file was expected and there is a folder, it says that.
    """
    path = os.path.normpath(os.path.expanduser(path))
    if os.path.isdir(path):
        return '; it is a folder'
    folder, name = os.path.split(path)
    folder = folder or '.'
    siblings = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    nearest = get_close_matches(name, siblings, n=3)
    return f'; closest in its folder: {", ".join(nearest)}' if nearest else ''
