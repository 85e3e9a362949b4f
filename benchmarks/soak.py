"""Train many iterations with images of changing sizes, and check for leaks.

    python benchmarks/soak.py CONFIG --iterations 2000

Counts memory, live tensors, open files and threads while MMEngine's Runner trains the config, and
checks that no module is still recorded after the run. Exits with 1 if a count grows. Output:
`soak.json` in the work dir.
"""
import argparse
import ctypes
import gc
import json
import os
from typing import Any, Dict, List

import numpy as np
import tools_on_path  # noqa: F401
import torch
from command import Parser, run
from common import add_common_options, build_runner, load_config
from mmengine.config import Config
from mmengine.hooks import Hook
from torch import nn

MEASURES = ('memory', 'tensors', 'files', 'threads')
SIZES = 'Resize', 'RandomResize', 'RandomChoiceResize'


def parse_args() -> argparse.Namespace:
    parser = Parser(description='Train for long, and look whether anything grows')
    parser.add_argument('config', help='the config: a path, or package::path')
    parser.add_argument('--iterations', type=int, default=2000, help='2000 by default')
    parser.add_argument('--limit', type=float, default=2., metavar='MIB',
                        help='growth of memory per 1000 iterations; 2 MiB by default')
    add_common_options(parser)
    return parser.parse_args()


def with_changing_sizes(node: Any) -> Any:
    """Return the config of a data set with images of random size, from half to full, without
    crops.
    """
    if not isinstance(node, dict):
        return node
    node = {key: with_changing_sizes(value) for key, value in node.items()}
    if isinstance(node.get('pipeline'), list):
        node['pipeline'] = [
            dict(type='RandomResize', scale=step.get('scale', (256, 256)), ratio_range=(0.5, 1.),
                 keep_ratio=True) if step['type'] in SIZES else step
            for step in node['pipeline'] if step['type'] != 'RandomCrop']
        if not any(step['type'] == 'RandomResize' for step in node['pipeline']):
            node['pipeline'].insert(2, dict(type='RandomResize', scale=(256, 256),
                                            ratio_range=(0.5, 1.), keep_ratio=True))
    return node


def prepared(args: argparse.Namespace) -> Config:
    """Return the config of the run: iteration-based, one process, no validation."""
    config = load_config(args)
    loader = config.train_dataloader
    loader.update(num_workers=0, persistent_workers=False, batch_sampler=None,
                  sampler=dict(type='InfiniteSampler', shuffle=True),
                  dataset=with_changing_sizes(loader.dataset.to_dict()))
    config.train_cfg = dict(type='IterBasedTrainLoop', max_iters=args.iterations)
    for part in ('val', 'test'):
        for key in ('dataloader', 'cfg', 'evaluator'):
            config.pop(f'{part}_{key}', None)
    config.param_scheduler = []
    config.default_hooks.checkpoint = dict(
        type='CheckpointHook', by_epoch=False, interval=args.iterations)
    config.log_processor = dict(by_epoch=False)
    student = config.model.get('student', config.model)
    for place in (student, config):
        # crop size of a segmentor
        if (place.get('data_preprocessor') or {}).get('size') is not None:
            place.data_preprocessor.update(size=None, size_divisor=32)
    return config


class Counts(Hook):
    """Counts resources at 25 moments of the run.

    Args:
        iterations (int): Number of iterations of the run.
    """

    priority = 'LOWEST'

    def __init__(self, iterations: int) -> None:
        self.every = max(1, iterations // 25)
        self.found: List[Dict[str, float]] = []
        self.sizes = set()

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None,
                         outputs: Any = None) -> None:
        self.sizes.update(tuple(image.shape[1:]) for image in data_batch['inputs'])
        if (runner.iter + 1) % self.every:
            return
        gc.collect()
        give_back_memory()
        with open('/proc/self/statm') as file:
            pages = int(file.read().split()[1])
        self.found.append(dict(
            iteration=runner.iter + 1,
            memory=pages * os.sysconf('SC_PAGE_SIZE') / 2**20,
            tensors=sum(type(one) in (torch.Tensor, nn.Parameter) for one in gc.get_objects()),
            files=len(os.listdir('/proc/self/fd')),
            threads=len(os.listdir('/proc/self/task'))))


def give_back_memory() -> None:
    """Release memory cached by the allocator, which depends on the sizes of the last images."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return  # without glibc


def slopes(found: List[Dict[str, float]]) -> Dict[str, float]:
    """Growth of each count per 1000 iterations, after the first fifth of the run.

    Theil-Sen estimator (median of the slopes of all pairs), which is robust to outliers.
    """
    late = found[len(found) // 5:]
    return {name: float(np.median([
        1000 * (b[name] - a[name]) / (b['iteration'] - a['iteration'])
        for i, a in enumerate(late) for b in late[i + 1:]])) for name in MEASURES}


def watched(model: nn.Module) -> List[str]:
    """Return the modules with a replaced forward or with hooks."""
    return [name or type(module).__name__ for name, module in model.named_modules()
            if 'forward' in vars(module) or module._forward_hooks or module._forward_pre_hooks]


def main() -> None:
    args = parse_args()
    runner = build_runner(prepared(args))
    counts = Counts(args.iterations)
    runner.register_hook(counts)
    runner.train()
    growth = slopes(counts.found)
    with open(os.path.join(runner.work_dir, 'soak.json'), 'w') as file:
        json.dump(counts.found, file, indent=1)
    print(f'{args.iterations} iterations, {len(counts.sizes)} sizes of images')
    print(f'{"":12}{"first":>10}{"middle":>10}{"last":>10}   per 1000 iterations')
    for name, unit in zip(MEASURES, ('MiB', '', '', '')):
        first, middle, last = (counts.found[i][name] for i in (0, len(counts.found) // 2, -1))
        print(f'{name:12}{first:10.0f}{middle:10.0f}{last:10.0f}   {growth[name]:+.2f} {unit}')
    networks = [runner.model]
    distillation = getattr(runner.model, 'distillation', None)
    if distillation is not None:
        networks += [one.model for one in distillation.networks.values()]
    left = [name for network in networks for name in watched(network)]
    print(f'modules still watched: {left or "none"}')
    grown = [name for name in MEASURES
             if growth[name] > (args.limit if name == 'memory' else 0)]
    print(f'what grows: {", ".join(grown) or "nothing"}')
    raise SystemExit(bool(grown or left))


if __name__ == '__main__':
    run(main)
