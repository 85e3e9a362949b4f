"""Measure the time and memory of distillation steps and losses in one run.

    python benchmarks/benchmark.py --student mmdet::retinanet/retinanet_r18_fpn_1x_coco.py \
        --teacher mmdet::retinanet/retinanet_r50_fpn_1x_coco.py --fast --losses
    python benchmarks/benchmark.py configs/ps_kd/retinanet_r18_bccd.py \
        configs/byot/retinanet_r18_bccd.py

The first form builds the distillations of a pair of plain configs, by --methods; the second takes
distillation configs of the same student. Images, annotations and weights are random, because they
do not change the amount of work. The parts (the step of the plain student, the complete forward of
the teacher, the step of each distillation) are run in turn, so that other load on the machine
affects all of them equally. The results are medians over the rounds, and ratios. On a CPU, memory
is measured in a separate process per part. Output: `benchmark.json` and `benchmark.md` in the work
dir, written anew when a batch size, a precision or a loss is finished.
"""
import argparse
import json
import os
import sys
from typing import Any, Dict

import tools_on_path  # noqa: F401
import torch
from command import Parser, run
from common import NONE, Options, check_checkpoint
from loss_calls import LOSSES, names_of_losses
from losses_alone import measure_losses, memory_of_loss, table_of_losses
from measuring import device_name
from mmengine.logging import MessageHub, MMLogger
from peer import LOSSES as MMRAZOR_LOSSES
from steps import (
    FLOAT32,
    measure_steps,
    memory_of_step,
    settings_of,
    table_of_profiles,
    table_of_steps,
)

from mmkd.losses import METHODS

FAST = dict(fuse=True, channels_last=True, precision='bf16')


def parse_args() -> argparse.Namespace:
    parser = Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='*', help='distillation configs of one student')
    parser.add_argument('--student', help='plain config, with --teacher')
    parser.add_argument('--teacher', help='plain config of the teacher')
    parser.add_argument('--teacher-checkpoint', help='trained weights of the teacher; random by '
                        'default, which does for times')
    parser.add_argument('--methods', nargs='+', default=['dist'],
                        help='with --student and --teacher: '
                        f'{", ".join(sorted(METHODS))}, or several '
                        "joined by '+'; dist by default")
    parser.add_argument('--fast', nargs='*', action=Options, metavar='SETTING=VALUE',
                        help='measure each also with faster settings of a frozen teacher; by '
                        'default ' + ' '.join(f'{key}={value}' for key, value in FAST.items()))
    parser.add_argument('--cached', action='store_true', help='and with its answers from a cache '
                        'on disk, which the rounds that do not count fill')
    parser.add_argument('--whole', action='store_true', help='and with a teacher that leaves out '
                        'nothing')
    parser.add_argument('--terms', action='store_true', help='and with losses that compute '
                        'nothing, so that the difference is what the losses take')
    parser.add_argument('--mmrazor', metavar='MODULE', help='and the same methods by MMRazor 1.0, '
                        'which compares what this module puts out, for instance '
                        'bbox_head.retina_cls; with --student and --teacher')
    parser.add_argument('--size', type=int, nargs=2, default=[512, 512], metavar=('H', 'W'),
                        help='of the images; 512 512 by default')
    parser.add_argument('--batch-size', type=int, nargs='+', default=[2], help='one or several, '
                        'for which the models are built once; 2 by default')
    parser.add_argument('--rounds', type=int, default=7, help='how often each part is timed')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--amp', choices=[FLOAT32, 'bfloat16', 'float16'], nargs='+',
                        default=[FLOAT32], help='train in automatic mixed precision; one or '
                        'several, float32 by default, without')
    parser.add_argument('--no-memory', action='store_true', help='times only')
    parser.add_argument('--no-times', action='store_true', help='memory of the steps only')
    parser.add_argument('--profile', action='store_true', help='also how much of each '
                        "distillation's step is mmkd's own code, beside networks and losses")
    parser.add_argument('--losses', nargs='*', metavar='LOSS',
                        help='also losses alone, against their straightforward form: names without '
                        "'Loss', or all; by default " + ' '.join(LOSSES))
    parser.add_argument('--compiled', action='store_true', help='with --losses: and against the '
                        'straightforward form by torch.compile')
    parser.add_argument('--loss-shape', type=int, nargs='+', default=[2, 720, 100, 168],
                        metavar='N', help='of the logits: N C H W; 2 720 100 168 by default, the '
                        'first level of RetinaNet for COCO')
    parser.add_argument('--feature-shape', type=int, nargs=4, default=[2, 256, 64, 64],
                        metavar='N', help='of the features that losses other than those of logits '
                        'compare; 2 256 64 64 by default')
    parser.add_argument('--work-dir', default='work_dirs/benchmark')
    parser.add_argument('--only', help=argparse.SUPPRESS)
    args = parser.parse_args()
    is_pair = bool(args.student and args.teacher)
    if args.losses is not None:
        every = names_of_losses()
        names = every if args.losses == ['all'] else args.losses or list(LOSSES)
        if not set(names) <= set(every):
            parser.error(f'--losses {" ".join(sorted(set(names) - set(every)))}: there are '
                         f'{", ".join(every)}; write some of these, or all')
        args.losses = names
    if bool(args.student or args.teacher) != is_pair or (is_pair and args.configs) or not (
            is_pair or args.configs or args.losses):
        parser.error('give distillation configs, or --student and --teacher, or only --losses')
    if args.mmrazor and not is_pair:
        parser.error('--mmrazor goes with --student and --teacher')
    if args.mmrazor and not set(args.methods) & set(MMRAZOR_LOSSES):
        parser.error(f'--mmrazor goes with the --methods {", ".join(MMRAZOR_LOSSES)}, but got '
                     f'{", ".join(args.methods)}')
    if args.no_times and (args.no_memory or args.losses or args.profile or not (
            is_pair or args.configs)):
        parser.error('--no-times goes with steps, and with none of --no-memory, --losses and '
                     '--profile')
    if args.compiled and not args.losses:
        parser.error('--compiled goes with --losses')
    if 'float16' in args.amp and args.device == 'cpu':
        parser.error('--amp float16 needs a GPU; on a CPU there is --amp bfloat16')
    if len(args.loss_shape) != 4:
        parser.error(f'--loss-shape is that of maps, N C H W, but got {args.loss_shape}')
    if args.teacher_checkpoint == NONE:
        args.teacher_checkpoint = None
    if args.teacher_checkpoint:
        check_checkpoint(args.teacher_checkpoint, '--teacher-checkpoint')
    if args.fast is not None:
        args.fast = args.fast or FAST
    return args


def main() -> None:
    args = parse_args()
    MMLogger.get_instance('benchmark', log_level='WARNING')
    MessageHub.get_current_instance().update_info('epoch', 0)  # TOOD reads it
    if args.only:
        loss, _, form = args.only.partition('/')
        found = memory_of_loss(args, loss, form) if form else memory_of_step(args)
        return print(json.dumps(found))
    measure(args)


def measure(args: argparse.Namespace) -> None:
    """Write what is measured whenever a setting or a loss is finished."""
    found: Dict[str, Any] = dict(machine=machine_of(args), command=' '.join(sys.argv[1:]))
    text = ''
    if args.configs or args.student:
        found['steps'] = {}
        for setting, one in measure_steps(args):
            found['steps'][str(setting)] = one
            text = write(args, found)
    if args.losses:
        found['losses'] = {}
        for name, one in measure_losses(args):
            found['losses'][name] = one
            text = write(args, found)
    print(f'\n{text}\nWritten to {args.work_dir}')


def write(args: argparse.Namespace, found: Dict[str, Any]) -> str:
    """Write `benchmark.json` and `benchmark.md`; return the latter."""
    text = f'{found["machine"]}\n\n'
    for setting, one in found.get('steps', {}).items():
        if len(settings_of(args)) > 1:
            text += f'**{setting}**\n\n'
        text += table_of_steps(one) + '\n'
        if args.profile:
            text += table_of_profiles(one['profiles']) + '\n'
    if found.get('losses'):
        text += table_of_losses(found['losses'], args)
    os.makedirs(args.work_dir, exist_ok=True)
    for name, content in (('benchmark.json', json.dumps(found, indent=1)), ('benchmark.md', text)):
        with open(os.path.join(args.work_dir, name), 'w') as file:
            file.write(content)
    return text


def machine_of(args: argparse.Namespace) -> str:
    """The machine, its software, and what is measured."""
    found = f'{device_name(args.device)}; torch {torch.__version__}'
    if args.configs or args.student:
        found += f'; images {args.size[0]}x{args.size[1]}'
        settings = settings_of(args)
        if len(settings) == 1:
            found += f', {settings[0]}'
    return f'{found}; medians of {args.rounds} rounds.'


if __name__ == '__main__':
    run(main)
