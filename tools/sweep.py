"""Sweep over methods, weights and temperatures of a distillation within a budget of hours.

    python tools/sweep.py configs/bccd/student.py --teacher configs/bccd/teacher.py \\
        --teacher-checkpoint work_dirs/bccd/teacher/seed0/epoch_24.pth \\
        --methods student dist kd cwd --seeds 0 1 2 --hours 8 --work-dir work_dirs/sweep

Needs Optuna: pip install mmkd[sweep]. The teacher runs once for each image; its outputs are stored,
so that a trial costs the step of the student. Trials that are worse than the median are cut. The
best settings are trained with the other seeds, too. Settings are chosen on every fifth training
image (--holdout), which is left out of training. The same command continues an interrupted sweep.
The work dir gets `sweep.md`, `sweep.json`, `best.py`, and a work dir for each trial. See
docs/sweep.md.
"""
import argparse
import json
import logging
import os
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, NamedTuple

from command import Parser, run
from common import (
    NONE,
    add_classes,
    add_common_options,
    add_teacher_checkpoint,
    built_by,
    check_classes,
    imports_of,
    read_config,
    read_teacher,
)
from data_options import hold_out, with_data_root
from fingerprint import data, differences, digest_of_config, digest_of_source, told
from label_files import write_whole
from mmengine.config import Config
from mmengine.logging import MMLogger
from sweep_loop import Sweep
from sweep_space import Space, prepare_student, spaces_of

from mmkd.inspection import inspect_pair
from mmkd.losses.method import methods_of
from mmkd.networks.frozen import LEFT_OUT
from mmkd.networks.libraries import is_module

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


RECORD = 'options.json'
"""Name of the file with the options."""


class Plan(NamedTuple):
    """What a sweep trains."""
    spaces: Dict[str, Space]
    student: str
    """Path of the student's config for trials."""
    plain: str
    """Path of the student's config without what only a sweep needs."""
    imports: List[str]
    cached: str
    """Code of the teacher with stored outputs."""
    running: str
    """Code of the teacher that runs in every step."""
    interval: int
    """Epochs, or iterations, from one validation to the next."""
    about: Dict[str, Any]
    """For the report."""


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='plain config of the student: a path, or package::path')
    parser.add_argument('--teacher', required=True, help='config of the teacher; or timm:NAME, '
                        'torchvision:NAME, transformers:FOLDER')
    add_teacher_checkpoint(parser)
    add_classes(parser)
    parser.add_argument('--methods', nargs='+', metavar='METHOD', help='names of methods, as '
                        "of --method of tools/train.py, not configs, several joined by '+'; "
                        '`student` is the student alone. By default the student alone, and the '
                        'recommended methods of its family')
    parser.add_argument('--hours', type=float, required=True, help='the budget, over all calls')
    parser.add_argument('--trials', type=int, help='most settings; by default as many as the '
                        'budget allows')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0], help='seeds of the trainings: '
                        'settings are searched with the first one, and the best ones are trained '
                        'with the others')
    parser.add_argument('--repeat', type=int, default=3, metavar='K', help='number of the best '
                        'settings that are trained with all seeds; 3 by default')
    parser.add_argument('--weights', type=float, nargs=2, default=[0.1, 10.], metavar=(
        'LOW', 'HIGH'), help='range of the factor of the weights; 0.1 10 by default')
    parser.add_argument('--temperatures', type=float, nargs=2, default=[0.25, 4.], metavar=(
        'LOW', 'HIGH'), help='range of the factor of tau, for methods that have it; 0.25 4 by '
        'default')
    parser.add_argument('--holdout', type=int, default=5, metavar='N', help='choose on every N-th '
                        'training image, left out of training; 5 by default; 0: on the validation '
                        'set')
    parser.add_argument('--variants', type=int, default=4, help='augmented variants of each image '
                        'for which outputs of the teacher are stored; 4 by default; 0: random '
                        'augmentation, and the teacher runs in every trial')
    parser.add_argument('--startup', type=int, default=5, help='number of finished trials before '
                        'one is cut; 5 by default')
    parser.add_argument('--data-root', help='folder of the data; overrides the config')
    parser.add_argument('--amp', action='store_true', help='train in automatic mixed precision')
    add_common_options(parser)
    args = parser.parse_args()
    check_numbers(parser, args)
    if args.teacher_checkpoint == NONE:
        parser.error('--teacher-checkpoint none: random weights teach nothing and differ from '
                     'trial to trial; write the weights of a trained teacher')
    if args.launcher != 'none':
        parser.error(f'--launcher {args.launcher}: a sweep trains on one device; leave it out')
    args.work_dir = args.work_dir or os.path.join(
        'work_dirs', f'{os.path.splitext(os.path.basename(args.config))[0]}_sweep')
    return args


def check_numbers(parser: Parser, args: argparse.Namespace) -> None:
    """Check the numbers among the options."""
    for name, least in (('trials', 1), ('repeat', 0), ('variants', 0), ('startup', 1)):
        value = getattr(args, name)
        if value is not None and value < least:
            parser.error(f'--{name} must be {least} or more, but got {value}')
    if not args.hours > 0:
        parser.error(f'--hours must be greater than 0, but got {args.hours:g}; write for instance '
                     '8')
    if args.holdout < 0 or args.holdout == 1:
        parser.error(f'--holdout must be 0, or 2 or more, but got {args.holdout}')
    if len(set(args.seeds)) < len(args.seeds):
        parser.error(f'--seeds has a number twice: {" ".join(map(str, args.seeds))}')
    for name in ('weights', 'temperatures'):
        low, high = getattr(args, name)
        if not 0 < low < high:
            parser.error(f'--{name} must be two numbers above 0, the smaller one first, but got '
                         f'{low:g} {high:g}')
        if not low <= 1 <= high:
            parser.error(f'--{name} must have 1 in its range, the setting of the authors, which is '
                         f'tried first, but got {low:g} {high:g}')


def check_optuna() -> None:
    """Check that Optuna is installed.

    Raises:
        ImportError: If it is not.
    """
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise ImportError('tools/sweep.py needs Optuna, which is not installed; run `pip install '
                          'optuna`, or install mmkd with the extra `sweep`') from error


def make_plan(args: argparse.Namespace, plain: Config, student: Config) -> Plan:
    """Find what can be compared, and write the configs that all trials share."""
    teacher, checkpoint = read_teacher(args.teacher, args.teacher_checkpoint)
    MMLogger.get_instance('sweep', log_level=logging.WARNING)
    pair = inspect_pair(plain, teacher, None if checkpoint == LEFT_OUT else checkpoint,
                        args.classes)
    spaces = spaces_of(args.methods, pair)
    paths = {}
    for name, config in (('plain', plain), ('student', student)):
        paths[name] = os.path.abspath(os.path.join(args.work_dir, f'{name}.py'))
        write_whole(paths[name], config.pretty_text)
    source = built_by(args.teacher) if is_module(args.teacher) else (
        args.teacher if '::' in args.teacher else os.path.abspath(args.teacher))
    kind, key = ('Module', 'build') if is_module(args.teacher) else ('', 'config')
    rest = f', {key}={source!r}' + (
        '' if checkpoint == LEFT_OUT else f', checkpoint={checkpoint!r}') + (
        f', classes={os.path.abspath(args.classes)!r}' if args.classes else '')
    cache = os.path.abspath(os.path.join(args.work_dir, 'answers'))
    return Plan(
        spaces, paths['student'], paths['plain'],
        imports_of(plain),
        f"dict(type='mmkd.Cached{kind}Teacher', cache={cache!r}{rest})",
        f"dict(type='mmkd.{kind or 'Frozen'}Teacher'{rest})",
        student.train_cfg.val_interval,
        dict(student=args.config, teacher=args.teacher, hours=args.hours,
             chosen_on=f'one of {args.holdout} training images, left out of training'
             if args.holdout else 'the validation set'))


def checked_record(args: argparse.Namespace, config: Config) -> Dict[str, Any]:
    """The options of a sweep; a work dir with a sweep of other options is refused.

    Raises:
        ValueError: If it has one.
    """
    path = os.path.join(args.work_dir, RECORD)
    now = {'the config': f'sha256 {digest_of_config(config)}',
           '--teacher': digest_of_source(args.teacher),
           '--teacher-checkpoint': digest_of_source(args.teacher_checkpoint or ''), **data(config),
           '--temperatures, factors': args.temperatures,
           **{f'--{name}': getattr(args, name) for name in (
               'methods', 'seeds', 'weights', 'holdout', 'variants', 'amp')}}
    if args.classes:
        now['--classes'] = digest_of_source(args.classes)
    if os.path.isfile(path):
        with open(path) as file:
            found = differences(json.load(file), now)
        if found:
            raise ValueError(f'{args.work_dir} has a sweep of other options ({told(found)}); use '
                             'another --work-dir')
    return now


@contextmanager
def alone_in(folder: str) -> Iterator[None]:
    """Keep a second sweep out of a work dir inside the block; the lock ends with the process.

    Raises:
        ValueError: If another process sweeps there.
    """
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, 'lock'), 'w') as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ValueError(f'another process sweeps in {folder}; wait for it, or use another '
                                 '--work-dir') from None
        yield


def plain_config(args: argparse.Namespace) -> Config:
    """The plain config of the student with the options.

    Raises:
        ValueError: If the config has a teacher, or no validation.
    """
    plain = read_config(args.config)
    if 'student' in plain.get('model', {}):
        raise ValueError(f'{args.config} has a teacher; use the plain config of the student')
    plain.merge_from_dict(args.cfg_options or {})
    if args.data_root:
        plain = with_data_root(plain, args.data_root)
    if not (plain.get('val_dataloader') and plain.get('val_evaluator')):
        raise ValueError(f'{args.config} has no `val_dataloader` and `val_evaluator`, which a '
                         'sweep chooses by; add them')
    return plain


def config_of_trials(args: argparse.Namespace, plain: Config) -> Config:
    """The student's config for trials; writes the files of the held-out part.

    Raises:
        ValueError: If the data set does not fit the options.
    """
    student = prepare_student(plain, args.variants)
    if args.holdout:
        hold_out(student, args.holdout, args.work_dir)
    return student


def main() -> None:
    args = parse_args()
    check_optuna()
    for method in args.methods or ():
        if method != 'student':
            methods_of(method)
    check_classes(args.teacher, args.classes)
    with alone_in(args.work_dir):
        plain = plain_config(args)
        # Before a file of an earlier sweep is overwritten.
        record = checked_record(args, plain)
        plan = make_plan(args, plain, config_of_trials(args, plain))
        # Only now: a sweep that was refused does not decide about the work dir.
        write_whole(os.path.join(args.work_dir, RECORD), json.dumps(record, indent=1))
        text = Sweep(args, plan).run()
    print(f'\n{text}\nThe report is {os.path.join(args.work_dir, "sweep.md")}; '
          f'`tools/report.py {os.path.join(args.work_dir, "trials")}/TRIAL...` shows trials '
          'beside each other')


if __name__ == '__main__':
    run(main, 'run the same command again: the sweep goes on where it was')
