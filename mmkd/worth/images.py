"""Which images does an examination see, and through which pipeline?"""
import copy
from typing import Any, Dict, List, Sequence

import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from torch.utils.data import Subset

LOADING = 'LoadAnnotations'
INNER = 'dataset', 'datasets'
"""Keys of data sets inside of wrappers."""


LEAST = 10
"""Images of each split that are seen even if the time is up."""


def drawn(count: int, most: int) -> List[int]:
    """Numbers of at most ``most`` of ``count`` images, drawn at random, always the same ones.

    The order is random, too, so that an examination that stops early has seen a fair sample.

    Example:
        >>> sorted(drawn(3, 5)), len(set(drawn(10, 4)))
        ([0, 1, 2], 4)
    """
    return [int(one) for one in np.random.default_rng(0).permutation(count)[:most]]


def innermost(dataset: Any) -> Any:
    """The config of the data set inside of wrappers; the first one of several."""
    for key in INNER:
        inner = dataset.get(key)
        if inner:
            return innermost(inner[0] if isinstance(inner, (list, tuple)) else inner)
    return dataset


def labelled_pipeline(config: Config) -> List[Any]:
    """The transforms of the validation, with labels in the frame of the network's input.

    The pipelines of mmdet and mmseg for tests load annotations after the resize, in pixels of the
    file. Here they are loaded before it, and transformed with the image. Both splits are seen
    through this pipeline, without random augmentation.

    Args:
        config (Config): A config with ``val_dataloader`` and ``train_dataloader``.
    """
    own = [dict(one) for one in innermost(config.val_dataloader.dataset).get('pipeline') or []]
    loading = [one for one in own if kind_of(one) == LOADING]
    if not loading:
        training = innermost(config.train_dataloader.dataset).get('pipeline') or []
        loading = [dict(one) for one in training if kind_of(one) == LOADING]
    rest = [one for one in own if kind_of(one) != LOADING]
    first = next((number for number, one in enumerate(rest, 1)
                  if kind_of(one).startswith('LoadImage')), 0)
    return [*rest[:first], *loading, *rest[first:]]


def kind_of(transform: Any) -> str:
    """Name of the class of a transform, without its scope."""
    kind = transform['type']
    return str(kind if isinstance(kind, str) else kind.__name__).rpartition('.')[2]


def labels_are_scaled(config: Config) -> bool:
    """Whether the validation loads annotations before it resizes, so that boxes are in pixels of
    the input, not of the file."""
    names = [kind_of(one) for one in innermost(config.val_dataloader.dataset).get('pipeline') or []]
    resize = next((n for n, name in enumerate(names) if 'Resize' in name), len(names))
    return LOADING in names and names.index(LOADING) < resize


class Part(Subset):
    """Some images of a data set of MMEngine, with the names of its classes."""

    @property
    def metainfo(self) -> Any:
        """That of the whole data set."""
        return self.dataset.metainfo  # type: ignore[attr-defined]


def loader_of(config: Config, dataset: Any, most: int, batch_size: int = 1) -> Any:
    """A data loader of at most ``most`` images of a data set, see :func:`drawn`, in this process.

    Args:
        config (Config): The config, for the collate function of ``val_dataloader``.
        dataset (dict): The config of the data set.
        most (int): Number of images.
        batch_size (int): Size of the batches. Defaults to 1.
    """
    whole = DATASETS.build(copy.deepcopy(dataset))
    settings: Dict[str, Any] = dict(
        batch_size=batch_size, num_workers=0, persistent_workers=False,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=Part(whole, drawn(len(whole), most)))
    collate = config.val_dataloader.get('collate_fn')
    if collate is not None:
        settings['collate_fn'] = collate
    return Runner.build_dataloader(settings, seed=0)


def split_loader(config: Config, split: str, most: int) -> Any:
    """A loader of single images with labels, without augmentation.

    Args:
        config (Config): The student's config.
        split (str): 'train' or 'held_out', the validation set.
        most (int): Number of images.
    """
    source = config.train_dataloader if split == 'train' else config.val_dataloader
    dataset = ConfigDict(copy.deepcopy(dict(innermost(source.dataset))))
    dataset.pipeline = labelled_pipeline(config)
    dataset.test_mode = False
    return loader_of(config, dataset, most)


def training_batches(config: Config, count: int, most: int) -> List[Any]:
    """The first batches of the training, with its augmentations, loaded in this process.

    Args:
        config (Config): The config.
        count (int): Number of batches.
        most (int): Most images of a batch.
    """
    settings = copy.deepcopy(config.train_dataloader)
    settings.update(num_workers=0, persistent_workers=False)
    settings.batch_size = min(settings.batch_size, most)
    settings.pop('prefetch_factor', None)
    loader = Runner.build_dataloader(settings, seed=0)
    return [batch for batch, _ in zip(loader, range(count))]


def training_size(config: Config) -> int:
    """Number of images of an epoch of the training set."""
    return len(DATASETS.build(copy.deepcopy(config.train_dataloader.dataset)))


def check_data(config: Config, needed: Sequence[str] = (
        'train_dataloader', 'val_dataloader', 'val_evaluator')) -> None:
    """Check that a config has data.

    Raises:
        ValueError: If a part is missing.
    """
    missing = [name for name in needed if not config.get(name)]
    if missing:
        raise ValueError(f'the config of the student has no `{"`, `".join(missing)}`, which --data '
                         'needs to evaluate the pair; add it, or leave out --data')
