"""Show which points of a student and a teacher can be compared, and which methods fit them.

Nothing is trained.

    python tools/inspect_pair.py mmdet::retinanet/retinanet_r18_fpn_1x_coco.py \\
        mmdet::retinanet/retinanet_r101_fpn_1x_coco.py --methods
"""
import argparse
import logging

from command import Parser, run
from common import add_teacher_checkpoint, checkpoint_of_teacher, read_config
from mmengine.logging import MMLogger

from mmkd.inspection import inspect_pair, methods_table, table_of


def parse_args() -> argparse.Namespace:
    parser = Parser(description='Show which points of a pair can be compared')
    parser.add_argument('student', help='config of the student: a path or package::path')
    parser.add_argument('teacher', help='config of the teacher')
    add_teacher_checkpoint(parser)
    parser.add_argument('--methods', action='store_true',
                        help='also try every method of --method of tools/train.py')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    MMLogger.get_instance('inspect_pair', log_level=logging.ERROR)
    student, teacher = read_config(args.student), read_config(args.teacher)
    checkpoint = args.teacher_checkpoint  # not needed, but its class names come first
    if checkpoint is not None:
        checkpoint = checkpoint_of_teacher(args.teacher, checkpoint)
    pair = inspect_pair(student, teacher, checkpoint)
    print(table_of(pair))
    if args.methods:
        print(methods_table(pair))


if __name__ == '__main__':
    run(main)
