"""Show which points of a student and a teacher can be compared, without training.

    python tools/inspect_pair.py mmdet::retinanet/retinanet_r18_fpn_1x_coco.py \\
        mmdet::retinanet/retinanet_r101_fpn_1x_coco.py
"""
import argparse
import logging

from common import read_config
from mmengine.logging import MMLogger

from mmkd.pair import inspect_pair, table_of


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Show which points of a pair can be compared')
    parser.add_argument('student', help='config of the student: a path or package::path')
    parser.add_argument('teacher', help='config of the teacher')
    parser.add_argument('--teacher-checkpoint', help='its class names come before the config\'s')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    MMLogger.get_instance('inspect_pair', log_level=logging.ERROR)
    print(table_of(inspect_pair(read_config(args.student), read_config(args.teacher),
                                args.teacher_checkpoint)))


if __name__ == '__main__':
    main()
