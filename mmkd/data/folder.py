"""Which files of a folder are images?"""
import os
from typing import Any, Iterator, NamedTuple, Sequence, Tuple

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm')
"""Endings of image files, in lower case."""


class Found(NamedTuple):
    """What a folder and its subfolders have."""
    images: Tuple[str, ...]
    """Paths of the images, ordered."""
    others: int
    """Number of the files with other endings."""
    hidden: int
    """Number of the hidden files and folders, which are left out."""

    def counted(self) -> str:
        """The files that are no images, for a message.

        Example:
            >>> Found((), 3, 1).counted()
            '3 files with other endings and 1 hidden file or folder'
        """
        def some(count: int, one: str, more: str) -> str:
            return f'{count} {one if count == 1 else more}'

        parts = [some(self.others, 'file with another ending', 'files with other endings')]
        parts += [some(self.hidden, 'hidden file or folder', 'hidden files or folders')] * bool(
            self.hidden)
        return ' and '.join(parts)


def images_in(folder: str, suffixes: Sequence[str] = SUFFIXES) -> Found:
    """The images of a folder and of its subfolders.

    Links to folders are followed. What is hidden (its name begins with a dot) is left out, such as
    ``.ipynb_checkpoints``.

    Args:
        folder (str): The folder.
        suffixes (Sequence[str]): Endings of the images, in lower case. Defaults to
            :data:`SUFFIXES`.
    """
    images, others, hidden = [], 0, 0
    for path in _files(folder, ()):
        if os.path.basename(path).startswith('.'):
            hidden += 1
        elif path.lower().endswith(tuple(suffixes)):
            images.append(path)
        else:
            others += 1
    return Found(tuple(sorted(images)), others, hidden)


def _files(folder: str, above: Tuple[str, ...]) -> Iterator[str]:
    """The files, and the hidden folders, in a folder and in its subfolders."""
    real = os.path.realpath(folder)
    if real in above:  # a link to a folder that it is in has no end
        return
    try:
        with os.scandir(folder) as entries:
            found = [(entry.path, _is_folder(entry)) for entry in entries]
    except PermissionError:
        if not above:
            raise
        return  # a subfolder of the system, such as lost+found
    for path, is_folder in found:
        if is_folder and not os.path.basename(path).startswith('.'):
            yield from _files(path, (*above, real))
        else:
            yield path


def _is_folder(entry: Any) -> bool:
    try:
        return bool(entry.is_dir())
    except OSError:  # a link to itself, or into a folder that may not be read
        return False


def endings(given: Any, what: str) -> Tuple[str, ...]:
    """Check endings of files that a user states.

    Args:
        given (Any): One ending, or a list of them.
        what (str): Name of the argument for messages.

    Returns:
        tuple[str]: The endings, in lower case.

    Raises:
        TypeError: If they are no text.
        ValueError: If there are none.

    Example:
        >>> endings(['.PNG', '.jp2'], 'suffixes')
        ('.png', '.jp2')
    """
    listed = [given] if isinstance(given, str) else given
    if not isinstance(listed, (list, tuple)) or not all(isinstance(one, str) for one in listed):
        raise TypeError(f'`{what}` must be a list of endings of files, but got {given!r:.200}; '
                        "write for instance ['.png', '.jp2']")
    if not listed or not all(listed):
        raise ValueError(f'`{what}` has no ending, or an empty one: {given!r:.200}; write for '
                         "instance ['.png', '.jp2'], or leave it out")
    return tuple(one.lower() for one in listed)
