"""Which images were held out from the training of which teacher?"""
import hashlib
import json
import os
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..core.missing import looked_for
from ..core.names import joined

NAME = 'folds.json'
"""Name of the file in its folder."""
VERSION = 1

WRITTEN = 'write it by tools/folds.py'


class Fold(NamedTuple):
    """A teacher that was trained without one part of the images."""
    config: str
    """Path of its config."""
    checkpoint: str
    """Path of its weights."""
    digest: str
    """SHA-256 of the file of its weights."""


class Folds(NamedTuple):
    """A training set, split into parts, and the teacher that was trained without each part."""
    path: str
    """Path of the file."""
    images: Dict[str, Tuple[int, int]]
    """Number of the part, from 0, and bytes of the file, by path in the folder of the images."""
    teachers: List[Fold]
    """The teachers in the order of the parts; [] if the file names none."""
    total: int
    """Number of parts."""
    digest: str
    """SHA-256 of the file."""

    @staticmethod
    def read(folder: str) -> 'Folds':
        """Read ``folds.json`` of a folder.

        Args:
            folder (str): The folder. Paths of the teachers are relative to it.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is damaged, or of another format.
        """
        path = os.path.join(os.path.expanduser(folder), NAME)
        if not os.path.isfile(path):
            raise FileNotFoundError(f'no {NAME} in `{folder}` {looked_for(path)}; '
                                    f'{WRITTEN}, or give the folder that it wrote')
        with open(path, 'rb') as file:
            content = file.read()
        try:
            found = json.loads(content)
            if found['version'] != VERSION:
                raise ValueError(f'its version is {found["version"]!r}, but {VERSION} was expected')
            count = int(found['folds'])
            images = {str(name): (int(fold), int(size))
                      for name, (fold, size) in found['images'].items()}
            parts = sorted({fold for fold, _ in images.values()})
            if parts != list(range(count)):
                raise ValueError(f'its images have the folds {parts}, but 0 to {count - 1} were '
                                 'expected')
            home = os.path.dirname(path)
            teachers = [Fold(os.path.join(home, one['config']),
                             os.path.join(home, one['checkpoint']), one['sha256'])
                        for one in found['teachers']]
            if teachers and len(teachers) != count:
                raise ValueError(f'it names {len(teachers)} teachers for {count} folds')
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f'{path} cannot be read as folds of a training set: '
                             f'{type(error).__name__}: {error}; {WRITTEN}') from error
        return Folds(path, images, teachers, count, hashlib.sha256(content).hexdigest())

    def fold_of(self, path: str) -> Optional[int]:
        """Number of the fold that holds an image out; None if no teacher has seen it.

        Args:
            path (str): Path of the image; only its end is compared.

        Example:
            >>> folds = Folds('', {'town/1.png': (0, 9), '2.png': (1, 9)}, [], 2, '')
            >>> [folds.fold_of(f'data/{name}') for name in ('town/1.png', '2.png', '1.png')]
            [0, 1, None]
        """
        found = self._find(path)
        return None if found is None else found[0]

    def check_images(self, paths: Sequence[str]) -> None:
        """Check that the teachers were trained on these images.

        Args:
            paths (Sequence[str]): Paths of the images with labels that the student is trained on.

        Raises:
            ValueError: If an image has no fold, or its file has another size.
        """
        missing = [path for path in paths if self.fold_of(path) is None]
        if missing:
            raise ValueError(
                f'{self.path} is of other images: {len(missing)} of {len(paths)} training images, '
                f'such as {joined(missing, 2)}, have no fold; train the teachers on this training '
                'set by tools/folds.py')
        for path in paths:
            found = self._find(path)
            assert found is not None
            if os.path.isfile(path) and os.path.getsize(path) != found[1]:
                raise ValueError(
                    f'{self.path} is of other images: {path} has {os.path.getsize(path)} bytes, '
                    f'but the image of this name had {found[1]} when the folds were written; train '
                    'the teachers on this training set by tools/folds.py')

    def _find(self, path: str) -> Optional[Tuple[int, int]]:
        parts = path.replace(os.sep, '/').split('/')
        for depth in range(len(parts), 0, -1):
            found = self.images.get('/'.join(parts[-depth:]))
            if found is not None:
                return found
        return None


def write_folds(folder: str, images: Dict[str, Tuple[int, int]], teachers: Sequence[Dict[str, str]],
                **more: Any) -> str:
    """Write ``folds.json`` into a folder in one step.

    Args:
        folder (str): The folder.
        images (dict[str, tuple[int, int]]): See :class:`Folds`.
        teachers (Sequence[dict]): ``config``, ``checkpoint`` (relative to the folder) and
            ``sha256`` of each teacher; [] before they are trained.
        **more: Further values to store, such as the seed.

    Returns:
        str: Path of the file.
    """
    path = os.path.join(folder, NAME)
    content = dict(version=VERSION, folds=1 + max(fold for fold, _ in images.values()), **more,
                   teachers=list(teachers), images=images)
    with open(f'{path}.part', 'w', encoding='utf-8') as file:
        json.dump(content, file, indent=1)
    os.replace(f'{path}.part', path)
    return path
