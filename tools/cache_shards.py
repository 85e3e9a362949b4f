"""The parts of a job array that fills a cache: their batches, and what must be equal in all."""
import hashlib
import os
from itertools import islice
from typing import Any, Dict, Iterator, List, Optional

from mmengine.config import Config
from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import BatchSampler

from mmkd.core.agreement import parts_of_config
from mmkd.files.shards import Shard, merge, seal, unseal
from mmkd.networks import Caching

ABOUT_SPEED = ('sampler', 'num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor')
"""Settings of a data loader that may differ between the jobs."""


@DATA_SAMPLERS.register_module()
class BatchesOfShard:
    """Every n-th batch, so that the batches of all shards are those of a single run: the padding of
    an image depends on the others of its batch.

    Args:
        sampler (Sampler): The order of the images.
        batch_size (int): Number of images of a batch.
        number (int): Number of the shard, from 1.
        total (int): Number of shards.
        inner (dict, optional): The batch sampler of the config. Defaults to None.
    """

    def __init__(self, sampler: Any, batch_size: int, number: int, total: int,
                 inner: Optional[Dict[str, Any]] = None) -> None:
        self.inner = BatchSampler(sampler, batch_size, False) if inner is None else (
            DATA_SAMPLERS.build(inner, default_args=dict(sampler=sampler, batch_size=batch_size)))
        self.first, self.total = number - 1, total

    def __iter__(self) -> Iterator[List[int]]:
        return islice(iter(self.inner), self.first, None, self.total)

    def __len__(self) -> int:
        return len(range(self.first, len(self.inner), self.total))


def use_shard(config: Config, shard: Shard) -> None:
    """Let a run read the batches of a shard; the logs have a folder of their own."""
    loader = config.train_dataloader
    loader.batch_sampler = dict(type='BatchesOfShard', number=shard.number, total=shard.total,
                                inner=loader.get('batch_sampler'))
    config.work_dir = os.path.join(config.work_dir, f'shard-{shard.number}-of-{shard.total}')


def settings_of(config: Config) -> Dict[str, Any]:
    """What a config says about the outputs to be stored. The weights and the settings of a teacher
    are in the description of its cache."""
    parts = parts_of_config(config)
    loader = {key: value for key, value in parts['train_dataloader'].items()
              if key not in ABOUT_SPEED}
    return dict(model=parts['model'], custom_hooks=parts.get('custom_hooks'),
                train_dataloader=loader)


def plan_of(settings: Dict[str, Any], dataset: Any) -> Dict[str, Any]:
    """What must be equal for all shards of a cache, and for the run that merges them.

    Args:
        settings (dict): From :func:`settings_of`.
        dataset (Dataset): The training images.
    """
    names = hashlib.sha256()
    for number in range(len(dataset)):
        names.update(f'{name_of(dataset, number)}\n'.encode())
    return dict(settings, images=len(dataset), order_of_images=names.hexdigest())


def name_of(dataset: Any, number: int) -> str:
    """Name of the file of an image; '' if the data set does not state it."""
    info = dataset.get_data_info(number) if hasattr(dataset, 'get_data_info') else {}
    return os.path.basename(str(info.get('img_path', '')))


def begin_shard(teachers: List[Caching], shard: Shard) -> None:
    """Let teachers fill the folders of a shard; before they open their caches."""
    for one in teachers:
        one.cache = shard.folder(one.cache)
        unseal(one.cache)


def end_shard(teachers: List[Caching], shard: Shard, plan: Dict[str, Any]) -> None:
    """Note that a shard is complete.

    Raises:
        ValueError: If answers could not be stored.
    """
    for one in teachers:
        assert one.store is not None
        if one.is_full:
            raise ValueError(f'shard {shard} in `{one.store.folder}` is not complete, because not '
                             'all outputs could be stored (see the warning above); free space on '
                             'the disk or increase `max_gb`, and run the same command again')
        sealed = seal(one.store.folder, shard, plan)
        print(f'shard {shard} is complete: {sealed.records} records, digest {sealed.digest[:12]}, '
              f'in {sealed.folder}')


def merge_shards(teachers: List[Caching], plan: Dict[str, Any]) -> None:
    """Merge the shards of each cache into it.

    Raises:
        ValueError: If they do not fit; see :func:`mmkd.files.shards.merge`.
    """
    for one in teachers:
        assert one.store is not None
        done = merge(one.store, one.cache, plan)
        print(f'{done.shards} shards with {done.records} records were merged and verified; '
              f'{len(one.store)} records are in {one.store.folder}')
