"""Train on BCCD in float32 and with --amp, kill a run and resume it.

    python benchmarks/gpu/train.py            # needs data/bccd

A teacher, then DIST in float32, with --amp, and with --amp killed in epoch 4 and resumed. The
resumed run must end within 1 AP of the other, because GPU kernels are not deterministic.
"""
import glob
import json
import os
import re
import signal
import subprocess
import sys
import time
from typing import List, Optional

from parts import arguments

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..')


def main() -> None:
    args = arguments(__doc__)
    if not os.path.isdir('data/bccd') and os.path.isdir('.gpu/bccd'):
        os.makedirs('data', exist_ok=True)
        os.symlink(os.path.abspath('.gpu/bccd'), 'data/bccd')
    if not os.path.isdir('data/bccd'):
        raise SystemExit('no data/bccd; docs/results/bccd says how to get it')
    work = os.path.join(args.out, 'work')
    teacher = f'{work}/teacher'
    begin = time.time()
    train('configs/bccd/teacher.py', teacher, ['--amp'])
    print(f'Teacher, 24 epochs with --amp: {score_of(teacher):.1f} AP, '
          f'{time.time() - begin:.0f} s\n\n| DIST, 12 epochs | AP | seconds |\n|---|---|---|')
    own = ['--cfg-options', f'model.teacher.checkpoint={teacher}/epoch_24.pth',
           'randomness.seed=0', 'train_cfg.val_interval=6']
    scores = {}
    for title, more, killed in (('float32', [], None), ('--amp', ['--amp'], None),
                                ('--amp, killed and resumed', ['--amp'], 4)):
        folder = f'{work}/{len(scores)}'
        begin = time.time()
        saved = ['default_hooks.checkpoint.interval=1'] if killed else []
        if killed:
            train('configs/bccd/dist.py', folder, [*more, *own, *saved], killed)
            more = [*more, '--resume']
        train('configs/bccd/dist.py', folder, [*more, *own, *saved])
        scores[title] = score_of(folder)
        print(f'| {title} | {scores[title]:.1f} | {time.time() - begin:.0f} |', flush=True)
    _, whole, resumed = scores.values()
    if abs(whole - resumed) > 1:
        raise SystemExit(f'resumed: {resumed:.1f} AP, not interrupted: {whole:.1f} AP')


def train(config: str, folder: str, more: List[str], killed_in: Optional[int] = None) -> None:
    """Run tools/train.py; kill it in an epoch."""
    command = [sys.executable, '-W', 'ignore', os.path.join(ROOT, 'tools', 'train.py'), config,
               '--work-dir', folder, *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          start_new_session=True) as process:
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


def score_of(folder: str) -> float:
    """Return the last AP in the newest log."""
    newest = max(glob.glob(os.path.join(folder, '*', 'vis_data', 'scalars.json')))
    with open(newest) as file:
        lines = [json.loads(line) for line in file]
    return float([100 * line['coco/bbox_mAP'] for line in lines if 'coco/bbox_mAP' in line][-1])


if __name__ == '__main__':
    main()
