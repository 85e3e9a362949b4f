"""Run a teacher on every training image once, and store its outputs.

    python tools/cache_teacher.py configs/cache/retinanet_r18_bccd.py

The config trains with `teacher=dict(type='mmkd.CachedTeacher', cache=FOLDER, ...)`, with
mmkd.CachedModuleTeacher, or with a mmkd.CrossFit that has `cache=FOLDER`. If the pipeline is
wrapped in `mmkd.Replay`, the tool stores all variants of every image; otherwise, one random
augmentation of each. Nothing is trained. Outputs that are stored already are not computed again, so
an interrupted run can be repeated.
"""
import argparse
from typing import Any, Dict, Iterator, List

import torch
from command import Parser, run
from common import add_common_options, build_runner, check_files, load_config, networks_of
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop
from tqdm import tqdm

from mmkd import MODELS, Replay
from mmkd.networks import BaseTeacher, Caching
from mmkd.networks.base import answering

NO_CACHE = ("the config has no mmkd.CachedTeacher; write teacher=dict(type='mmkd.CachedTeacher', "
            'cache=FOLDER, ...)')


def parse_args() -> argparse.Namespace:
    parser = Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='distillation config with a mmkd.CachedTeacher')
    add_common_options(parser)
    return parser.parse_args()


def main() -> None:
    config = load_config(parse_args())
    if not any(is_cached(entry) for _, entry in networks_of(
            config, ('config', 'build', 'folder'))):
        raise SystemExit(NO_CACHE)
    check_files(config)
    config.train_cfg = dict(type='FillCacheLoop', max_epochs=1)
    config.train_dataloader.update(
        sampler=dict(type='DefaultSampler', shuffle=False), persistent_workers=False)
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
    """Iterates over the training data and runs only the teachers."""

    def run(self) -> Any:
        runner = self.runner
        runner.call_hook('before_train')
        model = runner.model.module if hasattr(runner.model, 'module') else runner.model
        distillation = getattr(model, 'distillation', None)
        networks = {} if distillation is None else {
            name: caches_of(one) for name, one in distillation.networks.items()}
        teachers = [one for caches in networks.values() for one in caches]
        if not teachers:
            raise SystemExit(NO_CACHE)
        parts = [part for part in distillation.parts if networks[part.spec.source]]
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
                    distillation.ask(nothing_seen, data['inputs'], data['data_samples'], parts)
                    bar.update()
        for teacher in teachers:
            store = teacher.store
            assert store is not None
            print(f'{teacher.found} outputs were cached before, {teacher.missed} are new; '
                  f'{len(store)} records, {store.bytes / 2**20:.0f} MiB, in {store.folder}')
        return runner.model


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
