"""Train a teacher, a student alone and the same student distilled, and compare them.

    python tools/compare.py configs/bccd --data-root data/bccd/ --seeds 0 1 2

FOLDER contains `teacher.py`, `student.py` (the student alone) and one config per method (`kd.py`,
`dist.py`, ...). A config of another folder is given by its path. Its run has the name of its
folder, and it keeps its own teacher, unless that is the `teacher.py` of FOLDER. The name of a
method, as for --method of tools/train.py, needs no config: one is written for the pair of
`student.py` and `teacher.py`:

    python tools/compare.py configs/bccd --methods student dist configs/ps_kd/retinanet_r18_bccd.py
    python tools/compare.py configs/bccd_lite --methods student dist cwd 'mgd+cwd' auto

Several calls can fill one work dir. This one trains nothing, and makes the table of all its runs:

    python tools/compare.py configs/bccd --collect

The runs are trained in sequence. A finished run is not repeated, unless its config, a module of
yours that it uses, its data (annotations, label maps, names and sizes of images), or its
teacher's config or weights have changed. Output in the work dir: `table.md`, `results.json`,
`curves.png`, `sheet.png`, and for each run its config, log and checkpoint.
"""
import argparse
import json
import os
import re
import subprocess
import sys
from typing import Any, Callable, Dict, List, Optional

from bootstrap import check_evaluator, intervals_of
from chain import ENVIRONMENT, TRAIN_TOOL
from command import Parser, last_words, run
from common import check_checkpoint, check_files
from compare_plots import plot_curves, plot_sheet
from compare_students import (
    TRAINED_FIRST,
    add_options,
    find_students,
    has_teacher_of,
    make_config,
    write,
)
from compare_table import (
    GIVEN,
    collected_runs,
    columns_of,
    make_table,
    read_figures,
    remark_on,
    tested_figures,
    title_of,
)
from fingerprint import (
    code,
    data,
    differences,
    digest_of_config,
    digest_of_source,
    networks,
    told,
)
from mmengine.config import Config
from tqdm import tqdm

from mmkd.networks.frozen import model_config

TEST_TOOL = os.path.join(os.path.dirname(TRAIN_TOOL), 'test.py')
PROGRESS = re.compile(r'(?:Epoch\(train\)\s+\[(\d+)\]|Iter\(train\)\s+)\[\s*(\d+)/(\d+)\]'
                      r'.*?loss: ([\d.]+)')


def parse_args() -> argparse.Namespace:
    parser = Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', help='folder of configs')
    parser.add_argument('--work-dir', help='defaults to work_dirs/<name of the folder>')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0],
                        help='seeds of the students; the teacher has seed 0')
    add_options(parser)
    parser.add_argument('--tag', default='', help='suffix of the names of these runs')
    parser.add_argument('--teacher-checkpoint', help='weights of the teacher, which is '
                        'tested instead of trained')
    parser.add_argument('--collect', action='store_true', help='train nothing; table and curves of '
                        'all runs that are finished in the work dir, the best method first')
    parser.add_argument('--bootstrap', type=positive, nargs='?', const=1000, metavar='DRAWS',
                        help='draw the validation images again, 1000 times by default, and print '
                        'the 95 %% interval of each gain over the student alone')
    parser.add_argument('--sheet', type=int, default=5, metavar='ROWS',
                        help='images in sheet.png; 0 for none')
    args = parser.parse_args()
    if not os.path.isfile(os.path.join(args.folder, 'teacher.py')):
        parser.error(f'no teacher.py in {args.folder}')
    if args.teacher_checkpoint:
        check_checkpoint(args.teacher_checkpoint, '--teacher-checkpoint')
        if '://' not in args.teacher_checkpoint:
            args.teacher_checkpoint = os.path.abspath(os.path.expanduser(args.teacher_checkpoint))
    args.work_dir = args.work_dir or os.path.join(
        'work_dirs', os.path.basename(os.path.normpath(args.folder)))
    return args


def positive(text: str) -> int:
    """Read a whole number above 0."""
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f'`{text}` is not a whole number above 0')
    return int(text)


def main() -> None:
    args = parse_args()
    runs = collected_runs(args.work_dir) if args.collect else all_runs(args)
    intervals = intervals_of(runs, args.bootstrap) if args.bootstrap else {}
    table = make_table(runs, intervals) + remark_on(runs)
    written = ['table.md', 'results.json', 'curves.png']
    write(args.work_dir, 'table.md', table)
    write(args.work_dir, 'results.json', json.dumps(runs, indent=1))
    plot_curves(runs, {name: title_of(name) for name in runs},
                os.path.join(args.work_dir, 'curves.png'))
    if args.sheet and not args.tag and not args.collect:
        last = list(runs)[-1]
        plot_sheet([(title_of(name), runs[name][0]) for name in ('student', last, 'teacher')
                    if name in runs], args.sheet, os.path.join(args.work_dir, 'sheet.png'))
        written.append('sheet.png')
    print(f'\n{table}\nWritten to {args.work_dir}: {", ".join(written)}')
    others = set() if args.collect else set(collected_runs(args.work_dir)) - set(runs)
    if others:
        print(f'It has other runs, too: {", ".join(sorted(others))}; the same command with '
              '--collect makes the table of all')


def all_runs(args: argparse.Namespace) -> Dict[str, List[Dict[str, Any]]]:
    """Train what is not finished; return the results by name."""
    students = find_students(args)
    for path in students.values():  # errors in any config are raised before the first training
        config = make_config(args, path, 0, args.teacher_checkpoint or TRAINED_FIRST)
        if args.teacher_checkpoint or not has_teacher_of(args.folder, config):
            check_files(config)
        if args.bootstrap:
            check_evaluator(config, path)
    config = make_config(args, os.path.join(args.folder, 'teacher.py'), 0)
    teacher = (tested_teacher(args, config) if args.teacher_checkpoint else
               finish_run(args, 'teacher', 0, config))
    runs = {'teacher': [teacher]}
    for seed in args.seeds:
        for name, path in students.items():
            config = make_config(args, path, seed, teacher['checkpoint'])
            runs.setdefault(name + args.tag, []).append(
                finish_run(args, name + args.tag, seed, config))
    return runs


def finish_run(args: argparse.Namespace, name: str, seed: int, config: Config) -> Dict[str, Any]:
    """Train, unless the same run is finished; return its figures."""
    folder = os.path.join(args.work_dir, name, f'seed{seed}')
    title = f'{title_of(name)}, seed {seed}'
    fingerprint = {'the config': f'sha256 {digest_of_config(config)}', **networks(config),
                   **data(config), **code(config)}
    result = finished(folder, fingerprint, title)
    if result is None:
        config_path = write(folder, 'config.py', config.pretty_text)
        train(config_path, folder, title, config.train_cfg.get('max_epochs', 1))
        result = dict(read_figures(folder), fingerprint=fingerprint, config=config_path,
                      parameters=count_parameters(config))
        write(folder, 'result.json', json.dumps(dict(result, seed=seed)))
    return dict(result, seed=seed)


def tested_teacher(args: argparse.Namespace, config: Config) -> Dict[str, Any]:
    """Test the teacher of --teacher-checkpoint as students are validated, unless that was done."""
    folder = os.path.join(args.work_dir, 'teacher', GIVEN)
    if not config.get('val_dataloader'):
        return dict(checkpoint=args.teacher_checkpoint, curve=[],
                    config=write(folder, 'config.py', config.pretty_text))
    config.update(test_dataloader=config.val_dataloader, test_evaluator=config.val_evaluator,
                  test_cfg=dict(type='TestLoop'))
    fingerprint = {'the config': f'sha256 {digest_of_config(config)}',
                   'the checkpoint': digest_of_source(args.teacher_checkpoint),
                   **data(config), **code(config)}
    result = finished(folder, fingerprint, 'teacher', 'tested')
    if result is None:
        config_path = write(folder, 'config.py', config.pretty_text)
        started(TEST_TOOL, [config_path, args.teacher_checkpoint], folder, 'teacher')
        result = dict(tested_figures(folder), curve=[], fingerprint=fingerprint, config=config_path,
                      checkpoint=args.teacher_checkpoint, parameters=count_parameters(config))
        write(folder, 'result.json', json.dumps(result))
    return result


def finished(folder: str, fingerprint: Dict[str, Any], title: str,
             done: str = 'trained') -> Optional[Dict[str, Any]]:
    """The result in a folder, if it is of the same run; otherwise it is removed."""
    path = os.path.join(folder, 'result.json')
    if not os.path.isfile(path):
        return None
    with open(path) as file:
        result: Dict[str, Any] = json.load(file)
    before = result.get('fingerprint')
    changed = (differences(before, fingerprint) if isinstance(before, dict) else
               ['an earlier version of mmkd did not record its data and its teacher'])
    if '://' not in result['checkpoint'] and not os.path.isfile(result['checkpoint']):
        changed = [f'its checkpoint {result["checkpoint"]} does not exist']
    if not changed:
        figure = columns_of(result)[0]
        print(f'{title}: finished before, {figure} {result[figure]:.1f}')
        return result
    print(f'{title}: {done} again, because {told(changed)}')
    os.remove(path)
    return None


def train(config_path: str, folder: str, title: str, epochs: int) -> None:
    """Run tools/train.py with a progress bar."""
    with tqdm(desc=title, ncols=100, unit='it') as bar:
        def show(line: str) -> None:
            found = PROGRESS.search(line)
            if found:
                epoch, step, steps = (int(number or 1) for number in found.groups()[:3])
                bar.total = epochs * steps
                bar.set_postfix(loss=found.group(4), refresh=False)
                bar.update((epoch - 1) * steps + step - bar.n)
        started(TRAIN_TOOL, [config_path], folder, title, show)
        bar.update((bar.total or 0) - bar.n)


def started(tool: str, words: List[str], folder: str, title: str,
            see: Callable[[str], None] = lambda line: None) -> None:
    """Run a tool in a work dir; its output goes to train.log or test.log, and each line to ``see``.

    Raises:
        SystemExit: If it fails; the message has its last words.
    """
    log_path = os.path.join(folder, os.path.basename(tool).replace('.py', '.log'))
    command = [sys.executable, '-W', 'ignore', tool, *words, '--work-dir', folder]
    with open(log_path, 'w', buffering=1) as log, subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=dict(os.environ, **ENVIRONMENT)) as process:
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            see(line)
    if process.returncode:
        with open(log_path) as log:
            raise SystemExit(f'{title} failed; its log is {log_path}:\n{last_words(log.read())}')


def count_parameters(config: Config) -> int:
    """Number of parameters of the student."""
    from mmengine.registry import MODELS, DefaultScope
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model = MODELS.build(model_config(config))
    return sum(parameter.numel() for parameter in model.parameters())


if __name__ == '__main__':
    run(main, 'run the same command again: finished trainings are kept')
