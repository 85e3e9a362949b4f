"""Which images do two data sets share?"""
import hashlib
import math
import os
import time
from collections import defaultdict
from typing import Any, Dict, Iterator, List, Set

PIECE = 1 << 20
"""Bytes of a file that are read at once."""


def overlap(first: Any, second: Any, ends: float = math.inf) -> List[str]:
    """Files of the second data set that are in the first one, too, under any name.

    Files are equal if their SHA-256 is. Only files of equal size are read, so that two sets without
    a common image cost little more than the sizes of their files. Images that are not local files
    are left out.

    Args:
        first (Dataset | Sequence[str]): A data set of mmdet, mmseg or MMEngine, wrappers and
            concatenations included, or paths of images.
        second (Dataset | Sequence[str]): Likewise.
        ends (float): Time of :func:`time.monotonic` at which the comparison is given up. Defaults
            to infinity.

    Returns:
        list[str]: Paths of the second, in its order, each once.

    Raises:
        TimeoutError: If it was given up.
        TypeError: If one of both has no paths of images.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name, content in dict(a=b'cat', b=b'dog', c=b'cat').items():
        ...     _ = (folder / name).write_bytes(content)
        >>> a, b, c = (str(folder / name) for name in 'abc')
        >>> [pathlib.Path(path).name for path in overlap([a], [b, c])]
        ['c']
    """
    of_size: Dict[int, List[str]] = defaultdict(list)
    for path in image_paths(first):
        _check_time(ends)
        if os.path.isfile(path):
            of_size[os.path.getsize(path)].append(path)
    digests: Dict[int, Set[str]] = {}
    found: Dict[str, None] = {}
    for path in image_paths(second):
        _check_time(ends)
        if path in found or not os.path.isfile(path):
            continue
        size = os.path.getsize(path)
        if size not in of_size:
            continue
        if size not in digests:
            digests[size] = {digest_of(one, ends) for one in of_size[size]}
        if digest_of(path, ends) in digests[size]:
            found[path] = None
    return list(found)


def image_paths(dataset: Any) -> Iterator[str]:
    """Paths of the images of a data set, or the given paths.

    Args:
        dataset (Dataset | Sequence[str]): As in :func:`overlap`.

    Raises:
        TypeError: If it is neither, or its entries have no ``img_path``.
    """
    if isinstance(dataset, (list, tuple)):
        yield from map(str, dataset)
        return
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    if inner[0] is not None:
        for one in inner:
            yield from image_paths(one)
        return
    if not hasattr(dataset, 'get_data_info'):
        raise TypeError(f'{type(dataset).__name__} is not a data set of MMEngine: it has no '
                        '`get_data_info`, which returns the path of an image; use a list of paths')
    for number in range(len(dataset)):
        info = dataset.get_data_info(number)
        if 'img_path' not in info:
            raise TypeError(f'image {number} of {type(dataset).__name__} has no `img_path`, only '
                            f'{sorted(info)}; use a list of paths')
        yield str(info['img_path'])


def digest_of(path: str, ends: float = math.inf) -> str:
    """SHA-256 of a file, in hexadecimal digits.

    Raises:
        TimeoutError: If it takes longer than until ``ends``, see :func:`overlap`.
    """
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while piece := file.read(PIECE):
            _check_time(ends)
            digest.update(piece)
    return digest.hexdigest()


def _check_time(ends: float) -> None:
    if time.monotonic() > ends:
        raise TimeoutError('the images of two data sets were not compared within the time allowed')
