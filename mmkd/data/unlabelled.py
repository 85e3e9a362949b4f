"""How are images without labels loaded, so that only the step decides which ones?"""
import math
import os
from typing import Any, Dict, Iterator, List, Optional, Sequence, Set, Tuple, Union

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from torch.utils.data import Dataset

from ..core.build import named_arguments
from ..core.errors import said_by
from ..core.log import warn
from ..core.missing import looked_for
from ..core.rng import preserved_rng, seed_from
from ..registry import DATASETS, TRANSFORMS
from .folder import SUFFIXES, endings, images_in

TRIES = 100
"""Consecutive images that cannot be read, after which a folder is refused."""

Key = Tuple[int, ...]
"""Index of an image, and the numbers that seed its augmentation."""


@DATASETS.register_module()
class ImageFolder(BaseDataset):
    """The images of a folder and of its subfolders, without labels, ordered by path.

    Hidden files and folders are left out. A file that cannot be read as an image is named in a
    warning, and another image, drawn at random, takes its place: see ``test_mode``.

    Args:
        folder (str): The folder.
        pipeline (Sequence[dict]): The transforms, from loading to packing.
        suffixes (str | Sequence[str]): Endings of the files. Defaults to those of JPEG, PNG, BMP,
            TIFF, WebP and PPM.
        indices (int | Sequence[int], optional): Number of the first images to use, or the numbers
            of those to use. Defaults to None, all.
        metainfo (dict, optional): Meta information, such as the classes. Defaults to None.
        test_mode (bool): Whether a file that cannot be read is an error, because in a test no
            image may stand for another one. Defaults to False, it is replaced.

    Raises:
        FileNotFoundError: If the folder does not exist, or has no images.
        TypeError: If ``suffixes`` is of the wrong type.
        ValueError: If ``suffixes`` is empty; later, if 100 images in a row cannot be read, or one
            with ``test_mode``.

    Example:
        >>> ImageFolder('no_such_folder')  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        FileNotFoundError: the folder of unlabelled images, `no_such_folder`, does not exist ...
    """

    @named_arguments
    def __init__(self, folder: str, pipeline: Sequence[Any] = (),
                 suffixes: Union[str, Sequence[str]] = SUFFIXES,
                 indices: Union[int, Sequence[int], None] = None,
                 metainfo: Optional[dict] = None, test_mode: bool = False) -> None:
        self.folder = os.path.expanduser(folder)
        self.suffixes = endings(suffixes, 'suffixes')
        self._named: Set[str] = set()
        self._in_a_row = 0
        super().__init__(pipeline=list(pipeline), indices=indices, metainfo=metainfo,
                         test_mode=test_mode)

    def load_data_list(self) -> List[Dict[str, Any]]:
        """One dict per image."""
        if not os.path.isdir(self.folder):
            raise FileNotFoundError(
                f'the folder of unlabelled images, `{self.folder}`, does not exist '
                f'{looked_for(self.folder)}; give the path of a folder with images')
        found = images_in(self.folder, self.suffixes)
        if not found.images:
            raise FileNotFoundError(
                f'the folder of unlabelled images, `{self.folder}`, has no images, but '
                f'{found.counted()}; expected files that end with {", ".join(self.suffixes)}; give '
                "another folder, or the endings: unlabelled=dict(folder=..., suffixes=['.png'])")
        # Further keys that transforms of mmseg expect.
        return [dict(img_path=path, img_id=number, seg_fields=[], reduce_zero_label=False,
                     label_map=None) for number, path in enumerate(found.images)]

    def prepare_data(self, idx: int) -> Any:
        """An image through the pipeline; None if another one must take its place.

        Args:
            idx (int): Number of the image.
        """
        results: Any = self.get_data_info(idx)
        path, steps = results['img_path'], iter(self.pipeline.transforms)
        try:
            for step in steps:
                results = step(results)
                if results is None:
                    raise ValueError('it is empty')
                if 'img' in results:
                    break  # errors of later transforms are none of the file
        except Exception as error:  # what a reader raises depends on the library
            return self._replaced(path, said_by(error), error)
        self._in_a_row = 0
        for step in steps:
            results = step(results)
            if results is None:
                break
        return results

    def _replaced(self, path: str, why: str, error: Exception) -> None:
        """Name a file that cannot be read, once in each process."""
        if self.test_mode:
            raise ValueError(f'`{path}` cannot be read as an image: {why}; remove it, or write the '
                             'file again') from error
        self._in_a_row += 1
        if self._in_a_row >= TRIES:
            raise ValueError(
                f'{TRIES} images in a row of the folder of unlabelled images, `{self.folder}`, '
                f'cannot be read, the last is `{path}`: {why}; remove the files that are no '
                'images, or give another folder; if they are images, look at the transform of the '
                'pipeline that loads them') from error
        if path not in self._named:
            self._named.add(path)
            warn(f'`{path}` cannot be read as an image: {why}; another unlabelled image takes its '
                 'place; look at it, or remove it')


@TRANSFORMS.register_module()
class BlankAnnotations:
    """Annotations without an object, in place of a transform that loads them.

    Args:
        boxes (bool): Whether there are boxes, (0, 4). Defaults to False.
        masks (bool): Whether there are masks of objects. Defaults to False.
        label_map (bool): Whether there is a label map, ignored everywhere (255). Defaults to
            False.

    Example:
        >>> image = dict(img=np.zeros((4, 6, 3)))
        >>> BlankAnnotations(label_map=True)(image)['gt_seg_map'].shape
        (4, 6)
    """

    @named_arguments
    def __init__(self, boxes: bool = False, masks: bool = False, label_map: bool = False) -> None:
        self.boxes, self.masks, self.label_map = boxes, masks, label_map

    def __call__(self, results: Dict[str, Any]) -> Optional[Dict[str, Any]]:
        """Add the annotations to an image.

        Args:
            results (dict): From the transform that loads the image.
        """
        height, width = results['img'].shape[:2]
        results.pop('instances', None)
        if self.boxes:
            from mmdet.structures.bbox import HorizontalBoxes
            results['gt_bboxes'] = HorizontalBoxes(torch.zeros(0, 4))
            results['gt_bboxes_labels'] = np.zeros(0, np.int64)
            results['gt_ignore_flags'] = np.zeros(0, bool)
        if self.masks:
            from mmdet.structures.mask import BitmapMasks
            results['gt_masks'] = BitmapMasks(np.zeros((0, height, width), np.uint8), height, width)
        if self.label_map:
            results['gt_seg_map'] = np.full((height, width), 255, np.uint8)
            results['seg_fields'] = ['gt_seg_map']
            results.setdefault('ignore_index', 255)
        return results


class Seeded(Dataset):
    """A data set that seeds the augmentation of every image.

    Args:
        dataset (Dataset): The data set.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Key) -> Any:
        """An image, augmented with random numbers that depend only on ``key``.

        Args:
            key (tuple[int]): Index of the image, and the numbers of the seed.
        """
        with preserved_rng():
            seed_from(*key[1:])
            return self.dataset[key[0]]


class EndlessBatches:
    """Batches for steps without an end. A batch depends only on seed, step and rank.

    All processes together show every image once before one comes again. Each time the order is
    another one. So a resumed run needs no state: it begins at its step.

    Args:
        sampler (Sized): Its length is the number of images.
        batch_size (int): Number of images per process and step.
        seed (int): Random seed, equal in all processes. Defaults to 0.
        start (int): Number of the first step. Defaults to 0.
        rank (int): Number of this process. Defaults to 0.
        world_size (int): Number of processes. Defaults to 1.

    Example:
        >>> batches = iter(EndlessBatches(range(3), batch_size=2))
        >>> first, second, third = ([key[0] for key in next(batches)] for _ in range(3))
        >>> sorted(first + second[:1]), sorted(second[1:] + third)
        ([0, 1, 2], [0, 1, 2])
        >>> later = iter(EndlessBatches(range(3), batch_size=2, start=2))
        >>> [key[0] for key in next(later)] == third
        True
    """

    def __init__(self, sampler: Any, batch_size: int, seed: int = 0, start: int = 0,
                 rank: int = 0, world_size: int = 1) -> None:
        self.count, self.batch_size = len(sampler), batch_size
        self.seed, self.start = seed, start
        self.rank, self.world_size = rank, world_size
        self._order: Tuple[int, List[int]] = (-1, [])

    def __iter__(self) -> Iterator[List[Key]]:
        step = self.start
        while True:
            first = (step * self.world_size + self.rank) * self.batch_size
            yield [(self._image(first + number), self.seed, step, self.rank, number)
                   for number in range(self.batch_size)]
            step += 1

    def __len__(self) -> int:
        """Number of steps in which all processes together show every image once."""
        return math.ceil(self.count / (self.batch_size * self.world_size))

    def _image(self, position: int) -> int:
        passed, place = divmod(position, self.count)
        if self._order[0] != passed:
            generator = torch.Generator().manual_seed(
                int(np.random.SeedSequence([self.seed, passed]).generate_state(1)[0]))
            self._order = passed, torch.randperm(self.count, generator=generator).tolist()
        return self._order[1][place]
