"""Train on BCCD in float32 and in mixed precision, kill a run and resume it.

    python benchmarks/gpu/train.py            # needs data/bccd

A teacher, then at the same time three students that learn by DIST: in float32, with --amp, and with
--amp, killed in epoch 4 and resumed. Students trained on a CPU have 51.4 ± 0.4 AP
(docs/results/bccd); each of these must reach it within 2 AP, and the resumed run must end within
1 AP of the other, because GPU kernels are not deterministic.
"""
import glob
import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, List, Optional, Tuple

from parts import arguments

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..')
ON_A_CPU = 51.4
RUNS: Dict[str, Tuple[List[str], Optional[int]]] = {
    'float32': ([], None), '--amp': (['--amp'], None), '--amp, killed and resumed': (['--amp'], 4)}
"""Options of a run, and the epoch in which it is killed."""
RUNNING: List['subprocess.Popen[str]'] = []


def main() -> None:
    args = arguments(__doc__)
    signal.signal(signal.SIGTERM, stop)
    if not os.path.isdir('data/bccd') and os.path.isdir('.gpu/bccd'):
        os.makedirs('data', exist_ok=True)
        os.symlink(os.path.abspath('.gpu/bccd'), 'data/bccd')
    if not os.path.isdir('data/bccd'):
        raise SystemExit('no data/bccd; docs/results/bccd says how to get it')
    teacher = os.path.join(args.work_dir, 'teacher')
    begin = time.time()
    train('configs/bccd/teacher.py', teacher, ['--amp'])
    print(f'Teacher, 24 epochs with --amp: {score_of(teacher):.1f} AP, '
          f'{time.time() - begin:.0f} s\n\n| DIST, 12 epochs | AP | seconds, three runs at a time '
          '|\n|---|---|---|', flush=True)
    own = ['--cfg-options', f'model.teacher.checkpoint={teacher}/epoch_24.pth',
           'randomness.seed=0', 'train_cfg.val_interval=6']

    def run(title: str) -> Tuple[float, float]:
        more, killed_in = RUNS[title]
        folder = os.path.join(args.work_dir, f'student_{list(RUNS).index(title)}')
        begin = time.time()
        if killed_in:
            own_saved = [*own, 'default_hooks.checkpoint.interval=1']
            train('configs/bccd/dist.py', folder, [*more, *own_saved], killed_in)
            train('configs/bccd/dist.py', folder, [*more, '--resume', *own_saved])
        else:
            train('configs/bccd/dist.py', folder, [*more, *own])
        found = score_of(folder), time.time() - begin
        print(f'| {title} | {found[0]:.1f} | {found[1]:.0f} |', flush=True)
        return found

    with ThreadPoolExecutor(len(RUNS)) as pool:
        scores = {title: score for title, (score, _) in zip(RUNS, pool.map(run, RUNS))}
    far = [title for title, score in scores.items() if abs(score - ON_A_CPU) > 2]
    if far:
        raise SystemExit(f'farther than 2 AP from {ON_A_CPU}, the AP on a CPU: {"; ".join(far)}')
    _, whole, resumed = scores.values()
    if abs(whole - resumed) > 1:
        raise SystemExit(f'resumed: {resumed:.1f} AP, not interrupted: {whole:.1f} AP')


def train(config: str, folder: str, more: List[str], killed_in: Optional[int] = None) -> None:
    """Run tools/train.py; kill it in an epoch."""
    command = [sys.executable, '-W', 'ignore', os.path.join(ROOT, 'tools', 'train.py'), config,
               '--work-dir', folder, *more]
    if '--cfg-options' not in more:
        command.append('--cfg-options')
    command.append('train_dataloader.num_workers=4')
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          start_new_session=True) as process:
        RUNNING.append(process)
        assert process.stdout is not None
        last: List[str] = []
        for line in process.stdout:
            last = [*last[-20:], line]
            found = re.search(r'Epoch\(train\)\s+\[(\d+)\]', line)
            if killed_in and found and int(found.group(1)) == killed_in:
                os.killpg(process.pid, signal.SIGKILL)
                return
    if process.returncode:
        raise SystemExit(''.join(last))


def stop(*_: Any) -> None:
    """End all runs when this one is ended, so that they do not train beside the next section."""
    for process in RUNNING:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    os._exit(1)


def score_of(folder: str) -> float:
    """Return the last AP in the newest log."""
    newest = max(glob.glob(os.path.join(folder, '*', 'vis_data', 'scalars.json')))
    with open(newest) as file:
        lines = [json.loads(line) for line in file]
    return float([100 * line['coco/bbox_mAP'] for line in lines if 'coco/bbox_mAP' in line][-1])


if __name__ == '__main__':
    main()
