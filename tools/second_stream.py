"""Options of tools/train.py for images without labels."""
import argparse
import os
from typing import Any, Dict, List, Optional

from command import Parser
from common import read_config
from mmengine.config import Config

from mmkd.core.missing import looked_for


def add_second_stream(parser: Parser) -> None:
    """Add the options."""
    parser.add_argument('--unlabelled', metavar='FOLDER or CONFIG', help='images without labels '
                        'for every step: a folder, or a config whose `train_dataloader` has them, '
                        'with or without annotations')
    parser.add_argument('--pseudo-labels', nargs='?', type=float, const=0.5, metavar='SCORE',
                        help='on --unlabelled images the student learns from the predictions of '
                        'the teacher with this score or more, 0.5 by default')


def check_second_stream(parser: Parser, args: argparse.Namespace) -> None:
    """Refuse options that do not go together."""
    if args.pseudo_labels is not None and args.unlabelled is None:
        parser.error('--pseudo-labels needs --unlabelled FOLDER, the images to label')
    if args.unlabelled is not None and (args.prepare or args.assistant or args.generations):
        parser.error('--unlabelled cannot be combined with --prepare, --assistant and '
                     '--generations')


def images_of(name: str) -> Any:
    """The value of ``unlabelled`` for a folder or a config."""
    if not name.endswith('.py') and '::' not in name:
        folder = os.path.abspath(os.path.expanduser(name))
        if not os.path.isdir(folder):
            raise SystemExit(f'--unlabelled {name}: expected a folder of images, or a config '
                             f'(*.py), but there is no such folder {looked_for(folder)}')
        return folder
    loader = read_config(name).get('train_dataloader')
    if not loader:
        raise SystemExit(f'--unlabelled {name}: the config has no `train_dataloader`; use a config '
                         'with a `train_dataloader`, or a folder of images')
    return dict(dataloader=Config(dict(it=loader)).to_dict()['it'])


def entries_of(args: argparse.Namespace) -> List[Dict[str, Any]]:
    """The entry of ``distill`` for --pseudo-labels, if it is given."""
    return [] if args.pseudo_labels is None else [
        dict(type='mmkd.PseudoLabels', score_thr=args.pseudo_labels)]


def written(text: str, name: Optional[str]) -> str:
    """The text of a distillation config with ``unlabelled``."""
    return text if name is None else text.replace(
        '    distill=[\n', f'    unlabelled={images_of(name)!r},\n    distill=[\n', 1)


def added(config: Config, args: argparse.Namespace) -> Config:
    """A config that has a teacher, with the options."""
    if args.unlabelled is None:
        return config
    if 'student' not in config.get('model', {}):
        raise SystemExit(f'--unlabelled: {args.config} has no teacher for these images; write '
                         '--teacher, or use the config of a mmkd.Distiller')
    config.model.unlabelled = images_of(args.unlabelled)
    config.model.distill = [*config.model.get('distill', []), *entries_of(args)]
    return config
