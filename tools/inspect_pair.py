"""Show which points of a student and a teacher can be compared, and which methods fit them.

Nothing is trained.

    python tools/inspect_pair.py mmdet::retinanet/retinanet_r18_fpn_1x_coco.py \\
        mmdet::retinanet/retinanet_r101_fpn_1x_coco.py --methods
    python tools/inspect_pair.py STUDENT.py timm:vit_small_patch14_dinov2
    python tools/inspect_pair.py STUDENT.py TEACHER.py --classes classes.json
"""
import argparse
import logging

from command import Parser, run
from common import (
    NONE,
    add_classes,
    add_teacher_checkpoint,
    check_classes,
    read_config,
    read_teacher,
)
from mmengine.logging import MMLogger

from mmkd.inspection import inspect_pair, methods_table, table_of


def parse_args() -> argparse.Namespace:
    parser = Parser(description='Show which points of a pair can be compared')
    parser.add_argument('student', help='config of the student: a path or package::path')
    parser.add_argument('teacher', help='config of the teacher; or timm:NAME, torchvision:NAME, '
                        'transformers:FOLDER, or the dotted path of a function')
    add_teacher_checkpoint(parser)
    add_classes(parser)
    parser.add_argument('--methods', action='store_true',
                        help='also try every method of --method of tools/train.py')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    MMLogger.get_instance('inspect_pair', log_level=logging.ERROR)
    check_classes(args.teacher, args.classes)
    student = read_config(args.student)
    # Weights are not needed, but the class names in them come first.
    teacher, checkpoint = read_teacher(args.teacher, args.teacher_checkpoint or NONE)
    pair = inspect_pair(student, teacher, checkpoint, args.classes)
    print(table_of(pair))
    if pair.classes:
        print(pair.classes)
    if args.methods:
        print(methods_table(pair))


if __name__ == '__main__':
    run(main)
