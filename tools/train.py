"""Train a model, distilled or plain.

    python tools/train.py configs/dist/retinanet_r50.py
    python tools/train.py STUDENT.py --teacher TEACHER.py --method dist
    python tools/train.py STUDENT.py --teacher TEACHER.py --unlabelled FOLDER --pseudo-labels 0.5
    python tools/train.py STUDENT.py --teacher BIG.py --assistant MIDDLE.py
    python tools/train.py STUDENT.py --generations 3
    python tools/train.py TEACHER.py --prepare maskd

The second form needs no distillation config: it finds the points that can be compared, and writes a
config into the work dir, which can be edited and run with the first form. The third form adds
images without labels. The next two forms train several models in sequence; each one teaches the
next. The last form trains the first stage of a method that has two: it writes prepared.pth, which
the second form takes by --prepared.
"""
import argparse
import os

from chain import assistants, generations, run_chain
from command import Parser, run
from common import (
    add_common_options,
    add_teacher_checkpoint,
    build_runner,
    check_checkpoint,
    check_files,
    checkpoint_of_teacher,
    finish_config,
    load_config,
    read_config,
)
from first_stage import make_preparation
from mmengine.config import Config
from mmengine.device import get_device
from second_stream import add_second_stream, added, check_second_stream, written
from second_stream import entries_of as pseudo_labels_of
from written import check_edited, write_kept

from mmkd.files.latest import latest_whole
from mmkd.hooks import CheckpointHook
from mmkd.inspection import config_text, entries_of, inspect_pair, settings_of, table_of
from mmkd.losses import METHODS
from mmkd.losses.method import methods_of
from mmkd.networks.frozen import LEFT_OUT


def parse_args() -> argparse.Namespace:
    parser = Parser(description='Train a model, distilled or plain')
    parser.add_argument('config', help='the config: a path, or package::path')
    parser.add_argument('--teacher', help='config of a teacher, for a plain student config')
    add_teacher_checkpoint(parser)
    parser.add_argument('--method', help='what is compared, with --teacher: '
                        f'{", ".join(sorted(METHODS))}, '
                        "several joined by '+', or one of a module in the `custom_imports` of the "
                        'student; dist by default')
    parser.add_argument('--prepare', metavar='METHOD', help='train the first stage of a method '
                        'through the teacher that the config and --teacher-checkpoint give')
    parser.add_argument('--prepared', nargs='+', default=[], metavar='FILE', help='files of first '
                        'stages, for a --method that needs one')
    parser.add_argument('--assistant', nargs='+', default=[], metavar='CONFIG',
                        help='plain configs between teacher and student, the biggest first')
    parser.add_argument('--generations', type=int, help='number of trainings from scratch: '
                        'generation 0 on labels only, each further one with the previous one as '
                        'teacher')
    parser.add_argument('--overwrite', action='store_true', help='overwrite an edited distill.py; '
                        'restart stages that were trained with other options')
    parser.add_argument('--amp', action='store_true', help='train in automatic mixed precision')
    parser.add_argument(
        '--auto-scale-lr', action='store_true',
        help='scale the learning rate with the real batch size')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='resume the given checkpoint, or without one the latest in the work dir')
    add_second_stream(parser)
    add_common_options(parser)
    args = parser.parse_args()
    check_second_stream(parser, args)
    if args.prepare and (args.teacher or args.method or args.assistant or args.generations or
                         args.prepared):
        parser.error('--prepare takes the config of the teacher, and goes without --teacher, '
                     '--method, --prepared, --assistant and --generations')
    if args.teacher is None and (args.prepared or args.assistant or (
            args.teacher_checkpoint and not args.prepare) or (
                args.method and not args.generations)):
        parser.error('--teacher-checkpoint, --method, --prepared and --assistant go with --teacher')
    if args.generations is not None and (args.generations < 2 or args.teacher):
        parser.error('--generations is 2 or more, and goes without --teacher: the first one '
                     'learns from labels alone')
    if args.resume not in (None, 'auto') and (args.generations or args.assistant):
        parser.error('--resume CHECKPOINT does not go with --generations and --assistant: an '
                     'interrupted stage is resumed by itself; leave it out')
    return args


def make_pair(args: argparse.Namespace) -> Config:
    """Write the distillation config of a student and a teacher, and read it."""
    method = args.method or 'dist'
    student, teacher = read_config(args.config), read_config(args.teacher)
    methods_of(method)  # an unknown name is an error now; the config has imported its modules
    if getattr(student, '_imported_names', None):
        raise SystemExit(
            f'{args.config} is written in the new style of MMEngine (read_base), from which the '
            'distillation config, a file with a `_base_`, cannot inherit; import the student\'s '
            'model in a config of that style, as in the README, and run it without --teacher')
    if 'student' in student.get('model', {}):
        raise SystemExit(f'{args.config} has a teacher already; run it without --teacher, or give '
                         'the plain config of its student')
    checkpoint = checkpoint_of_teacher(args.teacher, args.teacher_checkpoint)
    stem = os.path.splitext(os.path.basename(args.config))[0]
    name = f'{stem}_{method.replace("+", "_")}'
    args.work_dir = args.work_dir or student.get('work_dir') or os.path.join('work_dirs', name)
    path = os.path.join(args.work_dir, 'distill.py')
    how_to_run = f'tools/train.py {path} --work-dir {args.work_dir}'
    check_edited(path, how_to_run, args.overwrite)

    if args.cfg_options:  # for the student, whose config becomes `model.student`
        student.merge_from_dict(args.cfg_options)
        args.cfg_options = {
            f'model.student.{key[len("model."):]}' if key.startswith('model.') else key: value
            for key, value in args.cfg_options.items()}
    pair = inspect_pair(student, teacher, None if checkpoint == LEFT_OUT else checkpoint)
    around = settings_of(method, pair)
    print(table_of(pair))
    entries = entries_of(method, pair, [os.path.abspath(os.path.expanduser(path))
                                        for path in args.prepared])
    if args.prepared and not any('tokens' in entry for entry in entries):
        raise SystemExit(f'--prepared {args.prepared[0]}, but `{method}` has no first stage; leave '
                         'it out, or add a method that has one, such as maskd')
    own = (student.get('custom_imports') or {}).get('imports') or []
    imports = [own] if isinstance(own, str) else own
    names = [name if '::' in name else os.path.abspath(name)
             for name in (args.config, args.teacher)]
    text = written(config_text(*names, checkpoint, [*entries, *pseudo_labels_of(args)], imports,
                               around, method), args.unlabelled)
    write_kept(path, text, 'train.py', how_to_run, args.overwrite)
    print(f'Wrote {path}:\n\n{text}')
    config = Config.fromfile(path)
    # Another file name, because MMEngine writes the complete config under this name, too.
    return Config(config._cfg_dict, text, os.path.join(args.work_dir, f'{name}.py'))


def main() -> None:
    args = parse_args()
    if args.resume not in (None, 'auto'):
        check_checkpoint(args.resume, '--resume')
    if args.assistant or args.generations:
        name = os.path.splitext(os.path.basename(args.config))[0]
        args.work_dir = args.work_dir or os.path.join(
            'work_dirs', f'{name}_{"assistants" if args.assistant else "generations"}')
        return run_chain(args, assistants(args) if args.assistant else generations(args))
    config = (finish_config(make_pair(args), args) if args.teacher else
              finish_config(make_preparation(args), args) if args.prepare else
              added(load_config(args), args))
    if args.amp:
        if get_device() == 'cpu':
            raise SystemExit("--amp is MMEngine's AmpOptimWrapper, which wants a GPU; on a CPU "
                             'train without')
        config.optim_wrapper.type = 'AmpOptimWrapper'
        config.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        if 'base_batch_size' not in (config.get('auto_scale_lr') or {}):
            raise SystemExit(
                '--auto-scale-lr needs auto_scale_lr = dict(base_batch_size=...) in the config: '
                'the batch size, over all GPUs, that its learning rate was meant for')
        config.auto_scale_lr.enable = True
    if args.resume is not None:
        path = latest_whole(config.work_dir) if args.resume == 'auto' else args.resume
        config.resume = path is not None
        config.load_from = path or config.get('load_from')
    check_files(config)
    runner = build_runner(config)
    CheckpointHook.protect(runner)
    runner.train()


if __name__ == '__main__':
    run(main)
