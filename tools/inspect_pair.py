"""Show which points of a pair can be compared, which methods fit, and whether it is worth it.

Nothing is trained.

    python tools/inspect_pair.py mmdet::retinanet/retinanet_r18_fpn_1x_coco.py \\
        mmdet::retinanet/retinanet_r101_fpn_1x_coco.py --methods
    python tools/inspect_pair.py STUDENT.py timm:vit_small_patch14_dinov2
    python tools/inspect_pair.py STUDENT.py TEACHER.py --classes classes.json

With --data, both networks run on some of the student's images: scores, disagreement, the teacher at
the point where the student is compared with it, gradients and costs of the methods, and one
recommendation. See docs/worth_it.md.

    python tools/inspect_pair.py configs/bccd/student.py configs/bccd/teacher.py --data \\
        --teacher-checkpoint work_dirs/bccd/teacher/seed0/epoch_24.pth \\
        --student-checkpoint work_dirs/bccd/student/seed0/epoch_12.pth --html pair.html

With --shares, only the gradients of the terms are measured. See docs/auto.md.

    python tools/inspect_pair.py configs/bccd/student.py configs/bccd/teacher.py \\
        --teacher-checkpoint work_dirs/bccd/teacher/seed0/epoch_24.pth --shares kd dist pkd
"""
import argparse
import logging
import sys

from command import Parser, run
from common import (
    NONE,
    add_classes,
    add_teacher_checkpoint,
    check_checkpoint,
    check_classes,
    read_config,
    read_teacher,
)
from mmengine.logging import MMLogger
from pair_report import check_examination, write_examination, write_shares

from mmkd.inspection import inspect_pair, methods_table, table_of
from mmkd.losses import METHODS

OF_DATA = 'images', 'minutes', 'student_checkpoint', 'json', 'html', 'only'
"""Options that need --data."""


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('student', help='config of the student: a path or package::path')
    parser.add_argument('teacher', help='config of the teacher; or timm:NAME, torchvision:NAME, '
                        'transformers:FOLDER, or the dotted path of a function')
    add_teacher_checkpoint(parser)
    add_classes(parser)
    parser.add_argument('--methods', action='store_true',
                        help='also try every method of --method of tools/train.py')
    parser.add_argument('--data', action='store_true',
                        help="measure the pair on images of the student's config, and recommend a "
                        'method')
    parser.add_argument('--shares', nargs='*', metavar='METHOD', help="measure the gradient of "
                        "each term beside that of the losses on labels (docs/auto.md), on images "
                        "of the student's config; by default of the recommended methods")
    parser.add_argument('--images', type=int, help='with --data: most images of each of training '
                        'and validation; 200 by default')
    parser.add_argument('--minutes', type=float, help='with --data: the limit of time; 5 by '
                        'default')
    parser.add_argument('--only', nargs='+', metavar='METHOD', help='with --data: methods to '
                        'measure; all that fit by default, as far as the time allows')
    parser.add_argument('--student-checkpoint', metavar='FILE', help='with --data or --shares: '
                        'weights of the student trained alone; by default those with which '
                        'training starts')
    parser.add_argument('--json', metavar='FILE', help='with --data: write the figures')
    parser.add_argument('--html', metavar='FILE', help='with --data: write one page')
    args = parser.parse_args()
    given = [name for name in OF_DATA if getattr(args, name) is not None and not (
        name == 'student_checkpoint' and args.shares is not None)]
    if args.data and args.shares is not None:
        parser.error('--data measures the shares, too; leave out --shares')
    if given and not args.data:
        parser.error(f'--{given[0].replace("_", "-")} goes with --data; add --data')
    if args.data:
        check_examination(parser, args)
    return args


def main() -> None:
    args = parse_args()
    MMLogger.get_instance('inspect_pair', log_level=logging.ERROR)
    check_classes(args.teacher, args.classes)
    student = read_config(args.student)
    if args.student_checkpoint:
        check_checkpoint(args.student_checkpoint, '--student-checkpoint')
    # Weights are not needed for the points, but the class names in them come first.
    teacher, checkpoint = read_teacher(
        args.teacher, args.teacher_checkpoint or (
            None if args.data or args.shares is not None else NONE))
    if args.shares is not None:
        return write_shares(args, student, teacher, checkpoint)
    if args.data:
        return write_examination(args, student, teacher, checkpoint)
    if args.methods:
        print(f'Trying {len(METHODS)} methods on one made-up batch: a minute, or several for large '
              'models or on a busy machine', file=sys.stderr, flush=True)
    pair = inspect_pair(student, teacher, checkpoint, args.classes)
    print(table_of(pair))
    if pair.classes:
        print(pair.classes)
    if args.methods:
        print(methods_table(pair))


if __name__ == '__main__':
    run(main)
