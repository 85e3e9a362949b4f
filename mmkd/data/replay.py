"""How is random augmentation repeated exactly, so that a teacher's outputs can be cached?"""
from typing import Any, Dict, Optional, Sequence

import numpy as np
from mmengine.dataset import Compose

from ..core.build import named_arguments
from ..core.rng import preserved_rng, seed_from
from ..registry import TRANSFORMS


@TRANSFORMS.register_module()
class Replay:
    """A pipeline with a fixed number of augmented variants of every image.

    Each call draws one of ``variants`` numbers at random. The augmentation is then determined by
    the seed, the index of the image, and the number of the variant. So the outputs of a teacher can
    be cached (:class:`mmkd.CachedTeacher`), as in FKD
    (`A Fast Knowledge Distillation Framework for Visual Recognition
    <https://arxiv.org/abs/2112.01528>`_), which stores them for a number of crops of each image.

    Transforms that mix several images (Mosaic, MixUp) draw the other images outside of the
    pipeline, and transforms that keep images from earlier calls depend on those; neither repeats.

    .. code-block:: python

        train_dataloader = dict(dataset=dict(pipeline=[
            dict(type='mmkd.Replay', transforms=_base_.train_pipeline, variants=4)]))

    Args:
        transforms (Sequence[dict]): The complete pipeline, from loading to packing.
        variants (int): Number of variants of each image. Defaults to 4.
        seed (int): Seed of the variants. Defaults to 0.

    Attributes:
        only (int | None): The variant to return, None for a random one. The tool that fills a cache
            sets it to each number in turn.

    Raises:
        TypeError: If ``transforms`` is not a list.
        ValueError: If ``variants`` is less than 1, or ``seed`` is negative.

    Example:
        >>> pipeline = Replay([dict(type='LoadImageFromFile')], variants=2)
        >>> pipeline.variants
        2
    """

    @named_arguments
    def __init__(self, transforms: Sequence[dict], variants: int = 4, seed: int = 0) -> None:
        if not isinstance(transforms, (list, tuple)) or not transforms:
            raise TypeError('`transforms` must be a list of transforms, such as the pipeline of '
                            f'the config, but got {transforms!r}; write transforms=[...]')
        for name, value, least in (('variants', variants, 1), ('seed', seed, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f'`{name}` must be a whole number of {least} or more, but got '
                                 f'{value!r}; write for instance {name}={least}')
        self.transforms = Compose(transforms)
        self.variants = variants
        self.seed = seed
        self.only: Optional[int] = None

    def __call__(self, results: Dict[str, Any]) -> Optional[Dict[str, Any]]:
        """Augment one image.

        Args:
            results (dict): From the data set, with the index ``sample_idx`` of the image.

        Returns:
            dict | None: The result of the last transform.

        Raises:
            KeyError: If ``sample_idx`` is missing.
        """
        if 'sample_idx' not in results:
            raise KeyError('mmkd.Replay needs the index of the image, `sample_idx`, which data '
                           'sets of MMEngine set at the start of a pipeline, but it is missing; '
                           'put the whole pipeline into its `transforms`')
        variant = np.random.randint(self.variants) if self.only is None else self.only
        with preserved_rng():
            seed_from(self.seed, int(results['sample_idx']), variant)
            augmented: Optional[Dict[str, Any]] = self.transforms(results)
        return augmented
