"""Run a teacher on every training image once, and store its outputs.

    python tools/cache_teacher.py configs/cache/retinanet_r18_bccd.py
    python tools/cache_teacher.py configs/cache/retinanet_r18_bccd.py --shard 1/8
    python tools/cache_teacher.py configs/cache/retinanet_r18_bccd.py --merge
    python tools/cache_teacher.py configs/cache/retinanet_r18_bccd.py --verify

The config trains with `teacher=dict(type='mmkd.CachedTeacher', cache=FOLDER, ...)`, with
mmkd.CachedModuleTeacher, or with a mmkd.CrossFit that has `cache=FOLDER`. If the pipeline is
wrapped in `mmkd.Replay`, the tool stores all variants of every image; otherwise, one random
augmentation of each. Nothing is trained. Outputs that are stored already are not computed again, so
an interrupted run can be repeated.

With --shard i/n, each of n jobs stores the outputs for its part of the batches in
FOLDER.shards/i-of-n. If the jobs have no common file system, copy these folders to one machine.
--merge then adds them to FOLDER: it refuses shards that are missing, damaged, of another teacher or
of other settings. --verify checks that every training image has its outputs, without the teacher.
"""
import argparse
from typing import Any, Dict, Iterator, List, Optional, Tuple

import torch
from cache_shards import begin_shard, end_shard, merge_shards, plan_of, settings_of, use_shard
from command import Parser, run
from common import add_common_options, build_runner, check_files, load_config, networks_of
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop
from tqdm import tqdm

from mmkd import MODELS, Replay
from mmkd.files.shards import Shard
from mmkd.networks import BaseTeacher, Caching
from mmkd.networks.base import answering

NO_CACHE = ("the config has no mmkd.CachedTeacher; write teacher=dict(type='mmkd.CachedTeacher', "
            'cache=FOLDER, ...)')


def parse_args() -> argparse.Namespace:
    parser = Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='distillation config with a mmkd.CachedTeacher')
    what = parser.add_mutually_exclusive_group()
    what.add_argument('--shard', metavar='i/n', help='store only part i of n, from 1 to n, in '
                      'FOLDER.shards/i-of-n')
    what.add_argument('--merge', action='store_true', help='add all shards to the cache')
    what.add_argument('--verify', action='store_true',
                      help='check that no output is missing; the teacher does not run')
    add_common_options(parser)
    args = parser.parse_args()
    if args.launcher != 'none' and (args.shard or args.merge):
        parser.error('--shard and --merge run in one process; leave out --launcher, and start one '
                     'job for each shard')
    return args


def main() -> None:
    args = parse_args()
    shard = Shard.of(args.shard) if args.shard else None
    config = load_config(args)
    if not any(is_cached(entry) for _, entry in networks_of(
            config, ('config', 'build', 'folder'))):
        raise SystemExit(NO_CACHE)
    check_files(config)
    config.train_cfg = dict(type='FillCacheLoop', max_epochs=1, settings=settings_of(config),
                            shard=shard and list(shard), task='merge' if args.merge else
                            'verify' if args.verify else 'fill')
    config.train_dataloader.update(
        sampler=dict(type='DefaultSampler', shuffle=False), persistent_workers=False)
    config.train_dataloader.pop('drop_last', None)
    if shard:
        use_shard(config, shard)
    config.param_scheduler = None
    for part in ('val', 'test'):
        for name in ('dataloader', 'evaluator', 'cfg'):
            config.pop(f'{part}_{name}', None)
    build_runner(config).train()


def is_cached(entry: Dict[str, Any]) -> bool:
    """Whether the outputs of this network are cached."""
    kind = entry.get('type')
    kind = MODELS.get(kind) if isinstance(kind, str) else kind
    if not isinstance(kind, type):
        return False
    return issubclass(kind, Caching) or (
        issubclass(kind, BaseTeacher) and entry.get('cache') is not None)


def caches_of(network: BaseTeacher) -> List[Caching]:
    """The networks with a cache in a network: itself, or those that it holds."""
    return [one for one in answering(network) if isinstance(one, Caching)]


@LOOPS.register_module(force=True)  # the file may be loaded twice in a process, as by tests
class FillCacheLoop(EpochBasedTrainLoop):
    """Iterates over the training data and runs only the teachers.

    Args:
        settings (dict): What must be equal for all shards of the cache.
        shard (tuple, optional): Number of the shard to fill, and of shards. Defaults to None.
        task (str): 'fill', 'merge' or 'verify'. Defaults to 'fill'.
        **loop: Arguments of MMEngine's loop.
    """

    def __init__(self, *args: Any, settings: Dict[str, Any],
                 shard: Optional[Tuple[int, int]] = None, task: str = 'fill', **loop: Any) -> None:
        super().__init__(*args, **loop)
        self.settings, self.shard, self.task = settings, shard and Shard(*shard), task

    def run(self) -> Any:
        runner = self.runner
        model = runner.model.module if hasattr(runner.model, 'module') else runner.model
        distillation = getattr(model, 'distillation', None)
        networks = {} if distillation is None else {
            name: caches_of(one) for name, one in distillation.networks.items()}
        teachers = [one for caches in networks.values() for one in caches]
        if not teachers:
            raise SystemExit(NO_CACHE)
        plan = plan_of(self.settings, self.dataloader.dataset)
        if self.shard:
            begin_shard(teachers, self.shard)
        if self.task == 'verify':
            for one in teachers:
                one.on_miss = 'error'
        runner.call_hook('before_train')
        if self.task == 'merge':
            merge_shards(teachers, plan)
            return runner.model
        self.ask([part for part in distillation.parts if networks[part.spec.source]])
        for teacher in teachers:
            store = teacher.store
            assert store is not None
            print(f'{teacher.found} outputs were cached before, {teacher.missed} are new; '
                  f'{len(store)} records, {store.bytes / 2**20:.0f} MiB, in {store.folder}')
        if self.shard:
            end_shard(teachers, self.shard, plan)
        return runner.model

    def ask(self, parts: List[Any]) -> None:
        """Ask the teachers of some terms about every variant of every image."""
        model = self.runner.model
        model = model.module if hasattr(model, 'module') else model
        nothing_seen: Dict[str, Dict] = {part.spec.learner: {} for part in parts}
        replays = list(replays_in(self.dataloader.dataset))
        variants = list(range(max([replay.variants for replay in replays], default=1)))
        if not replays:
            print('The pipeline is not wrapped in mmkd.Replay: if it is random, training will not '
                  'use the same images')
        with torch.no_grad(), tqdm(
                total=len(self.dataloader) * len(variants), unit='batch', ncols=100) as bar:
            for variant in variants:
                for replay in replays:
                    replay.only = variant % replay.variants
                for batch in self.dataloader:
                    data = model.data_preprocessor(batch, True)
                    model.distillation.ask(nothing_seen, data['inputs'], data['data_samples'],
                                           parts)
                    bar.update()


def replays_in(dataset: Any) -> Iterator[Replay]:
    """The Replay transforms in the pipelines of a data set and of the data sets inside it."""
    for transform in getattr(getattr(dataset, 'pipeline', None), 'transforms', []):
        if isinstance(transform, Replay):
            yield transform
    for inner in [getattr(dataset, 'dataset', None), *getattr(dataset, 'datasets', [])]:
        if inner is not None:
            yield from replays_in(inner)


if __name__ == '__main__':
    run(main, 'run the same command again: cached outputs are not computed again')
