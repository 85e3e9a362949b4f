"""Kill a training run at random moments, resume it, and compare it with an uninterrupted run.

    python benchmarks/kill_and_resume.py CONFIG --kills 20 --within 40

A seed, a checkpoint per epoch, and mmkd.ReseedHook are added to the config if they are missing.
Exits with 1 if the last checkpoints are not bitwise equal in weights, averages, optimizer,
schedules, and networks other than the student, and with 2 if the run ended before it was killed
once.
"""
import argparse
import os
import random
import signal
import subprocess
import sys
from typing import Any, List, Optional

import tools_on_path
import torch
from command import Parser, run
from common import load_config
from mmengine.config import Config

from mmkd.files.latest import latest_whole
from mmkd.files.reading import read_file

TRAIN = os.path.join(tools_on_path.TOOLS, 'train.py')


COMPARED = 'state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers', 'mmkd'


def parse_args() -> argparse.Namespace:
    parser = Parser(description='Kill a run at random moments and resume it')
    parser.add_argument('config', help='the config: a path, or package::path')
    parser.add_argument('--kills', type=int, default=20, help='how often at most; 20 by default')
    parser.add_argument('--within', type=float, default=40, metavar='SECONDS',
                        help='each within so many seconds from the start; 40 by default')
    parser.add_argument('--seed', type=int, default=0, help='of the moments')
    parser.add_argument('--work-dir', default='work_dirs/kill_and_resume',
                        help='folder of both runs; a run that is there already is gone on with')
    parser.add_argument('--cfg-options', nargs='+', default=[], help='as of train.py')
    return parser.parse_args()


def prepared(args: argparse.Namespace) -> str:
    """Write the config with the necessary settings; return its path."""
    config = load_config(argparse.Namespace(
        config=args.config, work_dir=args.work_dir, cfg_options=None, launcher='none',
        local_rank=0))
    randomness = config.get('randomness') or {}
    if randomness.get('seed') is None:
        config.randomness = dict(randomness, seed=0)
    hooks = [*(config.get('custom_hooks') or []), *(config.model.get('hooks') or [])]
    if not any(hook['type'] == 'mmkd.ReseedHook' for hook in hooks):
        config.custom_hooks = [*(config.get('custom_hooks') or []), dict(type='mmkd.ReseedHook')]
    if config.train_cfg.get('by_epoch', 'Epoch' in str(config.train_cfg.get('type'))):
        config.merge_from_dict({'default_hooks.checkpoint.interval': 1})
    os.makedirs(args.work_dir, exist_ok=True)
    path = os.path.join(args.work_dir, 'config.py')
    if os.path.isfile(path) and Config.fromfile(path).to_dict() != config.to_dict():
        raise SystemExit(f'{args.work_dir} holds the runs of another config; give another '
                         '--work-dir, or remove it')
    config.dump(path)
    return path


def train(args: argparse.Namespace, config: str, name: str, seconds: Optional[float]) -> bool:
    """Start or resume a run; return whether it ended before it was killed."""
    folder = os.path.join(args.work_dir, name)
    os.makedirs(folder, exist_ok=True)
    command = [sys.executable, TRAIN, config, '--work-dir', folder, '--resume']
    command += ['--cfg-options', *args.cfg_options] if args.cfg_options else []
    with open(os.path.join(folder, 'output.txt'), 'a') as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # including its data workers
            process.wait()
            return False
    if code:
        raise SystemExit(f'the run itself failed; see {output.name}')
    return True


def differences(one: Any, other: Any, where: str = '') -> List[str]:
    """Return the keys at which two checkpoints are not bitwise equal."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [found for key in {**one, **other} for found in differences(
            one.get(key), other.get(key), f'{where}/{key}')]
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return [found for i, pair in enumerate(zip(one, other)) for found in differences(
            *pair, f'{where}/{i}')] + [where] * (len(one) != len(other))
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return [] if torch.equal(one, other) else [where]
    return [] if one == other else [where]


def main() -> None:
    args = parse_args()
    config = prepared(args)
    train(args, config, 'whole', None)
    moments, kills = random.Random(args.seed), 0
    while kills < args.kills:
        after = moments.uniform(0, args.within)
        if train(args, config, 'killed', after):
            break
        kills += 1
        kept = latest_whole(os.path.join(args.work_dir, 'killed'))
        print(f'killed after {after:.1f} s; goes on from '
              f'{os.path.basename(kept) if kept else "the beginning"}', flush=True)
    train(args, config, 'killed', None)
    ends = []
    for name in ('whole', 'killed'):
        path = latest_whole(os.path.join(args.work_dir, name))
        assert path is not None
        saved = read_file(path, False, 'at the top level of the config')
        ends.append({key: saved.get(key) for key in COMPARED})
        ends[-1]['file'] = os.path.basename(path)
    found = differences(*ends)
    print(f'{kills} kills; {ends[0]["file"]} of both runs ' + (
        f'differ at {found[:5]}' if found else 'are equal to the bit'))
    raise SystemExit(bool(found) if kills else 2)


if __name__ == '__main__':
    run(main)
