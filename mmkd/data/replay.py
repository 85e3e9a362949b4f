"""How does random augmentation come again, so that what was said of an image holds next time?"""
from typing import Any, Dict, Optional, Sequence

import numpy as np
from mmengine.dataset import Compose

from ..core.build import named_arguments
from ..core.rng import preserved_rng, seed_from
from ..registry import TRANSFORMS


@TRANSFORMS.register_module()
class Replay:
    """A pipeline whose random choices are one of a few, fixed for every image.

    Every image has ``variants`` augmented forms, numbered; which one comes is drawn anew each time,
    what it looks like follows from seed, number of the image, and number of the variant. So a
    teacher's answers can be kept (:class:`mmkd.CachedTeacher`), as FKD
    (`A Fast Knowledge Distillation Framework for Visual Recognition
    <https://arxiv.org/abs/2112.01528>`_) keeps those of a number of crops of each image.

    Transforms that mix several images (Mosaic, MixUp) draw these outside of a pipeline, and those
    that remember what they have seen do not come again.

    .. code-block:: python

        train_dataloader = dict(dataset=dict(pipeline=[
            dict(type='mmkd.Replay', transforms=_base_.train_pipeline, variants=4)]))

    Args:
        transforms (Sequence[dict]): The whole pipeline, from loading to packing.
        variants (int): How many forms each image has. Defaults to 4.
        seed (int): Another one gives other forms. Defaults to 0.

    Attributes:
        only (int | None): The variant that comes, None for any; the tool that fills a cache goes
            through them.

    Raises:
        TypeError: If ``transforms`` is no list.
        ValueError: If ``variants`` is less than 1.
    """

    @named_arguments
    def __init__(self, transforms: Sequence[dict], variants: int = 4, seed: int = 0) -> None:
        if not isinstance(transforms, (list, tuple)) or not transforms:
            raise TypeError('`transforms` must be a list of transforms, such as the pipeline of '
                            f'the config, but got {transforms!r}; put the pipeline there')
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
            results (dict): As the data set gives it, with its number ``sample_idx``.

        Returns:
            dict | None: As the last transform returns it.

        Raises:
            KeyError: If the image has no number.
        """
        if 'sample_idx' not in results:
            raise KeyError('mmkd.Replay wants the number of the image, `sample_idx`, which data '
                           'sets of MMEngine give at the start of a pipeline; put the whole '
                           'pipeline into its `transforms`')
        variant = np.random.randint(self.variants) if self.only is None else self.only
        with preserved_rng():
            seed_from(self.seed, int(results['sample_idx']), variant)
            augmented: Optional[Dict[str, Any]] = self.transforms(results)
        return augmented
