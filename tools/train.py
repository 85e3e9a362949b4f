"""Train a model, distilled or plain.

    python tools/train.py configs/dist/retinanet_r50.py
    python tools/train.py STUDENT.py --teacher TEACHER.py --method dist
    python tools/train.py STUDENT.py --teacher timm:vit_small_patch14_dinov2 \\
        --teacher-checkpoint FILE --method mimic
    python tools/train.py STUDENT.py --teacher TEACHER.py --unlabelled FOLDER --pseudo-labels 0.5
    python tools/train.py STUDENT.py --teacher BIG.py --assistant MIDDLE.py
    python tools/train.py STUDENT.py --generations 3
    python tools/train.py TEACHER.py --prepare maskd

The second form needs no distillation config: it finds the points that can be compared, and writes a
config into the work dir, which can be edited and run with the first form. In the third, a module of
another library teaches features. The fourth adds images without labels. The next two forms train
several models in sequence; each one teaches the next. The last form trains the first stage of a
method that has two: it writes prepared.pth, which the second form takes by --prepared.
"""
import argparse
import os
from typing import Any, Dict, Tuple

from chain import assistants, generations, run_chain
from command import Parser, run
from common import (
    add_classes,
    add_common_options,
    add_teacher_checkpoint,
    build_runner,
    check_checkpoint,
    check_classes,
    check_files,
    finish_config,
    load_config,
    read_config,
    read_teacher,
)
from first_stage import make_preparation
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import LOOPS
from pair_config import check_plain, text_for
from recommend import recommended_for
from second_stream import add_second_stream, added, check_second_stream, written
from second_stream import entries_of as pseudo_labels_of
from written import check_edited, write_kept

from mmkd import Distiller
from mmkd.core.build import check_arguments, parameters_of
from mmkd.files.latest import latest_whole
from mmkd.hooks import CheckpointHook
from mmkd.inspection import inspect_pair, table_of
from mmkd.losses import METHODS
from mmkd.losses.method import methods_of
from mmkd.losses.recommended import AUTO
from mmkd.networks.frozen import LEFT_OUT
from mmkd.networks.libraries import is_module

OF_DISTILLER = frozenset(parameters_of(Distiller)[0]) - {'student', 'data_preprocessor'}
"""Arguments of the Distiller that are none of a plain model."""


def parse_args() -> argparse.Namespace:
    parser = Parser(description='Train a model, distilled or plain')
    parser.add_argument('config', help='the config: a path, or package::path')
    parser.add_argument('--teacher', help='for a plain student config: the config of a teacher; or '
                        'timm:NAME, torchvision:NAME, transformers:FOLDER, or the dotted path of a '
                        'function that returns a module')
    add_teacher_checkpoint(parser)
    add_classes(parser)
    parser.add_argument('--method', help=f'method, with --teacher: {", ".join(sorted(METHODS))}, '
                                         "several joined by '+', `auto` for the recommended "
                                         'one, or one of a module in the `custom_imports` of the '
                                         'student; by default dist, and '
                                         'mimic for a module of another library')
    parser.add_argument('--prepare', metavar='METHOD', help='train the first stage of a method '
                                                            'with the teacher of the config and '
                                                            '--teacher-checkpoint')
    parser.add_argument('--prepared', nargs='+', default=[], metavar='FILE', help='files of first '
                        'stages, for a --method that needs one')
    parser.add_argument('--assistant', nargs='+', default=[], metavar='CONFIG',
                        help='plain configs of models between teacher and student, the largest '
                             'first')
    parser.add_argument('--generations', type=int, help='number of trainings from scratch: '
                        'generation 0 on labels only, each further one with the previous one as '
                        'teacher')
    parser.add_argument('--overwrite', action='store_true', help='overwrite an edited distill.py; '
                        'restart stages that were trained with other options')
    parser.add_argument('--amp', action='store_true',
                        help="automatic mixed precision: MMEngine's on a GPU, bfloat16 on a CPU")
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
        parser.error('--prepare needs the config of the teacher, and cannot be combined with '
                     '--teacher, --method, --prepared, --assistant and --generations')
    if args.teacher is None and (args.prepared or args.assistant or (
            args.teacher_checkpoint and not args.prepare) or args.classes or (
                args.method and not args.generations)):
        parser.error('--teacher-checkpoint, --method, --prepared, --classes and --assistant need '
                     '--teacher')
    if args.assistant and (args.classes or is_module(args.teacher)):
        parser.error("--assistant needs configs with the student's classes, and cannot be combined "
                     'with --classes and modules of other libraries')
    if args.generations is not None and (args.generations < 2 or args.teacher):
        parser.error('--generations must be 2 or more, and cannot be combined with --teacher: the '
                     'first generation is trained on labels only')
    if args.resume not in (None, 'auto') and (args.generations or args.assistant):
        parser.error('--resume CHECKPOINT cannot be combined with --generations and --assistant, '
                     'which resume an interrupted stage themselves; leave it out')
    return args


def split_options(options: Dict[str, Any], student: Config) -> Tuple[Dict[str, Any],
                                                                     Dict[str, Any]]:
    """``--cfg-options`` for the plain config of the student, and for the distillation config.

    Keys such as 'model.distill.0.loss_weight' or 'model.teacher.checkpoint' are arguments of the
    Distiller. Any other 'model.KEY' is one of the student, which 'model.student.KEY' is, too.
    """
    of_student: Dict[str, Any] = {}
    of_pair: Dict[str, Any] = {}
    for key, value in options.items():
        first, _, rest = key.partition('.')
        name = rest.partition('.')[0]
        if first == 'model' and name in OF_DISTILLER and name not in student.get('model', {}):
            of_pair[key] = value
            continue
        if first == 'model' and name != 'student':
            of_student[key] = value
            key = f'model.student.{rest}'
        elif first == 'model':
            of_student[f'model.{rest.partition(".")[2]}'] = value
        else:
            of_student[key] = value
        of_pair[key] = value
    return of_student, of_pair


def make_pair(args: argparse.Namespace) -> Config:
    """Write the distillation config of a student and a teacher, and read it."""
    method = args.method or ('mimic' if is_module(args.teacher) else 'dist')
    student = read_config(args.config)
    if not is_module(args.teacher):
        read_config(args.teacher)  # a mistake in a file comes before one in an option
    if method != AUTO:
        methods_of(method)  # an unknown name is an error now; the config has imported its modules
    check_plain(student, args.config)
    check_classes(args.teacher, args.classes)
    teacher, checkpoint = read_teacher(args.teacher, args.teacher_checkpoint)
    stem = os.path.splitext(os.path.basename(args.config))[0]
    name = f'{stem}_{method.replace("+", "_")}'
    args.work_dir = args.work_dir or student.get('work_dir') or os.path.join('work_dirs', name)
    path = os.path.join(args.work_dir, 'distill.py')
    how_to_run = f'tools/train.py {path} --work-dir {args.work_dir}'
    check_edited(path, how_to_run, args.overwrite)

    if args.cfg_options:
        of_student, args.cfg_options = split_options(args.cfg_options, student)
        student.merge_from_dict(of_student)
    pair = inspect_pair(student, teacher, None if checkpoint == LEFT_OUT else checkpoint,
                        args.classes)
    print(table_of(pair))
    if method == AUTO:
        method, reason = recommended_for(pair, is_module(args.teacher))
        print(f'--method {AUTO} takes {method}: {reason}\n')
    if args.classes:
        print(pair.classes)
    text = written(text_for(method, pair, student, args.config, args.teacher, checkpoint,
                            args.prepared, pseudo_labels_of(args), args.classes), args.unlabelled)
    write_kept(path, text, 'train.py', how_to_run, args.overwrite)
    print(f'Wrote {path}:\n\n{text}')
    config = Config.fromfile(path)
    # Another file name, because MMEngine writes the complete config under this name, too.
    return Config(config._cfg_dict, text, os.path.join(args.work_dir, f'{name}.py'))


def use_mixed_precision(config: Config) -> None:
    """Select MMEngine's wrapper for a GPU, mmkd's for a CPU."""
    wrapper = config.optim_wrapper
    if get_device() == 'cpu':
        wrapper.type = 'mmkd.BFloat16OptimWrapper'
        for of_a_gpu in ('loss_scale', 'dtype', 'use_fsdp'):
            wrapper.pop(of_a_gpu, None)
    else:
        wrapper.type = 'AmpOptimWrapper'
        wrapper.setdefault('loss_scale', 'dynamic')


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
        use_mixed_precision(config)
    if args.auto_scale_lr:
        if 'base_batch_size' not in (config.get('auto_scale_lr') or {}):
            raise SystemExit(
                '--auto-scale-lr needs auto_scale_lr = dict(base_batch_size=...) in the config, '
                'the total batch size over all GPUs for which its learning rate was chosen')
        config.auto_scale_lr.enable = True
    if args.resume is not None:
        path = latest_whole(config.work_dir) if args.resume == 'auto' else args.resume
        config.resume = path is not None
        config.load_from = path or config.get('load_from')
    check_files(config)
    check_loop(config)
    runner = build_runner(config)
    CheckpointHook.protect(runner)
    runner.train()


def check_loop(config: Config) -> None:
    """Check the arguments of `train_cfg`, which MMEngine reads after it has built the model.

    Raises:
        TypeError: If one is unknown or missing.
    """
    given = dict(config.get('train_cfg') or {})
    name = {True: 'EpochBasedTrainLoop', False: 'IterBasedTrainLoop'}.get(
        given.pop('by_epoch', None), given.pop('type', None))
    loop = LOOPS.get(name) if isinstance(name, str) else name
    if loop is not None:
        known, takes_any = parameters_of(loop)
        check_arguments(f'`train_cfg`: {loop.__name__}',
                        {key: value for key, value in given.items() if key != '_scope_'},
                        {key: one for key, one in known.items()
                         if key not in ('runner', 'dataloader')}, takes_any)


if __name__ == '__main__':
    run(main, 'run the same command with --resume to continue from the last checkpoint')
