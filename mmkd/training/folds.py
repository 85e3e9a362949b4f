"""Are the images of this run those of the folds of a mmkd.CrossFit?"""
from typing import Any, Iterator, List

from mmengine.logging import print_log
from mmengine.registry import DATASETS, DefaultScope

from ..core.runner import current_runner
from ..data.overlap import image_paths


def check_folds(distillation: Any) -> None:
    """Check that every training image of the run has a fold, and is not mixed with others.

    Without a Runner nothing is checked.

    Args:
        distillation (Distillation): The distillation, with prepared networks.

    Raises:
        ValueError: If an image has no fold, or a transform joins several images.
    """
    fitted: List[Any] = [one for one in distillation.networks.values() if one.chooses_by_image]
    runner = current_runner()
    if not fitted or runner is None:
        return
    loader = getattr(runner._train_loop, 'dataloader', None) or runner._train_dataloader
    if isinstance(loader, dict):
        with DefaultScope.overwrite_default_scope(runner.cfg.get('default_scope')):
            dataset = DATASETS.build(loader['dataset'])
    else:
        dataset = getattr(loader, 'dataset', None)
    for transform in transforms_in(dataset):
        if hasattr(transform, 'get_indexes') or hasattr(transform, 'get_indices'):
            raise ValueError(
                f'{type(transform).__name__} of the training pipeline joins several images, which '
                'may be of different folds, so a teacher would predict for images that it was '
                'trained on; leave it out, or use another teacher than mmkd.CrossFit')
    paths = list(image_paths(dataset))
    for one in fitted:
        one.folds.check_images(paths)
        print_log(f'mmkd.CrossFit: each of {len(paths)} training images is taught by the one of '
                  f'{one.folds.total} teachers that was trained without it ({one.folds.path})',
                  'current')


def transforms_in(value: Any) -> Iterator[Any]:
    """All transforms of a data set and of the data sets and transforms inside it."""
    if isinstance(value, (list, tuple)):
        for one in value:
            yield one
            yield from transforms_in(one)
        return
    for name in ('pipeline', 'transforms', 'dataset', 'datasets'):
        if getattr(value, name, None) is not None:
            yield from transforms_in(getattr(value, name))
