"""The part of tools/inspect_pair.py that runs both networks on data."""
import argparse
import json
import os
import sys
from typing import Any, List, Optional

from command import Parser
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmkd.losses.method import methods_of
from mmkd.reports.pair import as_page, as_text, shares_text
from mmkd.reports.pictures import Drawer, scaled_labels
from mmkd.worth import recommend
from mmkd.worth.examine import IMAGES, MINUTES, examine, measure_shares
from mmkd.worth.findings import Examination
from mmkd.worth.images import labels_are_scaled


def check_examination(parser: Parser, args: argparse.Namespace) -> None:
    """Check the options of --data, and set their defaults."""
    args.images = IMAGES if args.images is None else args.images
    args.minutes = MINUTES if args.minutes is None else args.minutes
    if args.images < 1:
        parser.error(f'--images must be at least 1, but got {args.images}; use for instance 200')
    if not args.minutes > 0:
        parser.error(f'--minutes must be greater than 0, but got {args.minutes:g}; use for '
                     'instance 5')
    for name in args.only or ():
        methods_of(name)
    for option in ('json', 'html'):
        path = getattr(args, option)
        folder = os.path.dirname(os.path.abspath(path)) if path else '.'
        if not os.path.isdir(folder):
            parser.error(f'--{option} {path}: the folder {folder} does not exist; create it, or '
                         'use another path')


def tell(text: str) -> None:
    """Say on the terminal what begins."""
    print(f'{text} ...', file=sys.stderr, flush=True)


def check_predicts(args: argparse.Namespace, teacher: Any) -> None:
    """Check that the teacher has predictions.

    Raises:
        ValueError: If it has features alone.
    """
    if not isinstance(teacher, Config):
        raise ValueError(f'--data and --shares need a teacher with predictions, but {args.teacher} '
                         'has features alone; use the config of a detector, a segmentor or a '
                         'classifier, or leave out the option')


def write_shares(args: argparse.Namespace, student: Config, teacher: Any,
                 checkpoint: Optional[str]) -> None:
    """Print the table of shares.

    Raises:
        ValueError: If the teacher has no predictions, the config no data, or a method is unknown.
    """
    for name in args.shares:
        methods_of(name)
    check_predicts(args, teacher)
    print(shares_text(measure_shares(student, teacher, checkpoint, args.student_checkpoint,
                                     args.classes, args.shares or None, tell)))


def write_examination(args: argparse.Namespace, student: Config, teacher: Any,
                      checkpoint: Optional[str]) -> None:
    """Examine the pair, and print and write the report.

    Raises:
        ValueError: If the teacher has no predictions, or the config no data.
    """
    check_predicts(args, teacher)
    done = examine(student, teacher, checkpoint, args.student_checkpoint, args.classes,
                   args.images, args.minutes, args.only, tell)
    advice = recommend(done.findings)
    print(as_text(done.findings, advice))
    if args.json:
        with open(args.json, 'w', encoding='utf-8') as file:
            json.dump(dict(recommendation=advice.as_dict(), **done.findings.as_dict()), file,
                      indent=1)
    if args.html:
        text = as_page(done.findings, advice, pictures_of(done, student),
                       'Command: ' + ' '.join(sys.argv))
        with open(args.html, 'w', encoding='utf-8') as file:
            file.write(text)
    written = [path for path in (args.json, args.html) if path]
    if written:
        print(f'\nWritten: {", ".join(written)}')


def pictures_of(done: Examination, config: Config) -> List[str]:
    """Rows of pictures of the images on which both networks differ most."""
    with DefaultScope.overwrite_default_scope(config.get('default_scope')):
        drawer = Drawer(config, done.metainfo)
        rows = []
        for one in done.examples:
            sample = one['student']
            truth = scaled_labels(sample) if labels_are_scaled(config) else sample
            rows.append(drawer.row(truth, [(side, one[side]) for side in ('student', 'teacher')],
                                   os.path.basename(str(sample.get('img_path', '')))))
    return [row for row in rows if row]
