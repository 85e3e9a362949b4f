"""Which students does tools/compare.py train, and with which configs?"""
import argparse
import glob
import os
from typing import Dict, Optional, Sequence

from common import Options, read_config
from compare_table import TITLES
from data_options import hold_out, with_data_root
from mmengine.config import Config
from mmengine.logging import MMLogger
from pair_config import check_plain, text_for
from recommend import recommended_for

from mmkd.core.missing import looked_for
from mmkd.inspection import Pair, inspect_pair
from mmkd.losses.method import methods_of
from mmkd.losses.recommended import AUTO

TRAINED_FIRST = 'is trained first'
"""The checkpoint of a teacher that has none yet."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the students and change their configs."""
    parser.add_argument('--data-root', help='folder of the data; overrides the configs')
    parser.add_argument('--methods', nargs='+', help='students to train: name of a config in the '
                        'folder without .py, path of another config, or a --method of '
                        "tools/train.py, such as pkd, 'mgd+cwd' or auto, for the pair of "
                        'student.py and teacher.py; by default all configs of the folder')
    parser.add_argument('--prepared', nargs='+', default=[], metavar='FILE', help='files of first '
                        'stages, for methods that need one')
    parser.add_argument('--holdout', type=int, metavar='N',
                        help='to choose settings without the validation set: validate on every '
                        'N-th training image, and leave it out of training')
    parser.add_argument('--cfg-options', nargs='+', action=Options, default={},
                        help='override settings of the students, as in tools/train.py')


def find_students(args: argparse.Namespace) -> Dict[str, str]:
    """Paths of the students' configs by name: alone, KD, DIST, then any other."""
    found = {name_in(path): path for path in glob.glob(os.path.join(args.folder, '*.py'))}
    del found['teacher']
    order = [*TITLES, *sorted(set(found) - set(TITLES))]
    wanted = args.methods or [name for name in order if name in found]
    students: Dict[str, str] = {}
    pair: Optional[OfFolder] = None
    for method in wanted:
        if method in found:
            name, path = method, found[method]
        elif method.endswith('.py') and os.path.isfile(method):
            name, path = os.path.basename(os.path.dirname(os.path.abspath(method))), method
        elif method.endswith('.py') or os.sep in method:
            raise SystemExit(f'no config at {method} {looked_for(method)}; write the path of a '
                             f'config, or one of {sorted(found)}')
        else:
            pair = pair or OfFolder(args)
            name, path = method, pair.write(method, sorted(found))
        if name in students:
            raise SystemExit(f'{path} and {students[name]} have the same name {name!r}; compare '
                             'them in two runs, with two work dirs')
        students[name] = path
    if args.prepared and not (pair and pair.takes_prepared):
        raise SystemExit(f'--prepared {args.prepared[0]}, but no method of --methods has a first '
                         'stage; leave it out, or add one that has, such as maskd')
    return students


def name_in(path: str) -> str:
    """Name of a config, without folder and suffix."""
    return os.path.splitext(os.path.basename(path))[0]


class OfFolder:
    """The pair of student.py and teacher.py, for which configs of methods are written.

    Args:
        args (argparse.Namespace): With ``folder``, ``work_dir``, ``prepared`` and
            ``teacher_checkpoint``.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.pair: Optional[Pair] = None
        self.takes_prepared = False

    def write(self, method: str, others: Sequence[str]) -> str:
        """Write the config of a method; its path.

        Args:
            method (str): Value of ``--method`` of tools/train.py.
            others (Sequence[str]): Names of the configs of the folder, for the message.

        Raises:
            SystemExit: If there is no such method, or no student.py.
            ValueError: If it cannot be used for the pair.
        """
        folder = self.args.folder
        student, teacher = (os.path.join(folder, f'{name}.py') for name in ('student', 'teacher'))
        if not os.path.isfile(student):
            raise SystemExit(f'no student.py in {folder}, which --methods {method} needs; write '
                             'the plain config of the student, or paths of configs')
        config = read_config(student)  # imports the modules that have methods of the user
        check_plain(config, student)
        if method != AUTO:
            try:
                methods_of(method)
            except ValueError as error:
                raise SystemExit(f'no config {method!r}; the configs of {folder} are {others}, and '
                                 f'there is {error}') from None
        if self.pair is None:
            MMLogger.get_instance('compare', log_level='WARNING')  # not of its random weights
            self.pair = inspect_pair(config, read_config(teacher))
        taken = method
        if method == AUTO:
            taken, reason = recommended_for(self.pair)
            print(f'{AUTO} takes {taken}: {reason}')
        given = self.args.teacher_checkpoint
        prepared = self.args.prepared if any(one.prepare for one in methods_of(taken)) else ()
        self.takes_prepared |= bool(prepared)
        text = '# Written by tools/compare.py at each call: copy it to edit it.\n' + text_for(
            taken, self.pair, config, student, teacher, given or TRAINED_FIRST, prepared)
        return write(os.path.join(self.args.work_dir, 'configs'), f'{method}.py', text)


def make_config(args: argparse.Namespace, path: str, seed: int,
                teacher_checkpoint: Optional[str] = None) -> Config:
    """The config of one run."""
    config = read_config(path)
    if args.data_root:
        config = with_data_root(config, args.data_root)
    if args.holdout:
        hold_out(config, args.holdout, args.work_dir)
    config.randomness = dict(seed=seed)
    if teacher_checkpoint:
        config.merge_from_dict(dict(args.cfg_options))
    if has_teacher_of(args.folder, config):
        config.model.teacher.checkpoint = teacher_checkpoint
    return config


def has_teacher_of(folder: str, config: Config) -> bool:
    """Whether the teacher of a config is the `teacher.py` of a folder."""
    teacher = config.model.get('teacher')
    path = teacher.get('config') if isinstance(teacher, dict) else None
    return isinstance(path, str) and os.path.isfile(path) and os.path.samefile(
        path, os.path.join(folder, 'teacher.py'))


def write(folder: str, name: str, text: str) -> str:
    """Write a file, and its folder if it does not exist; its path."""
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, name)
    with open(path, 'w') as file:
        file.write(text)
    return path
