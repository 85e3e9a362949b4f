"""Write one page of HTML about one run or several. It opens without a network.

    python tools/report.py work_dirs/bccd/dist/seed0 work_dirs/bccd/student/seed0 \\
        work_dirs/bccd/teacher/seed0 --out report.html

The page has the curves of all losses, the scores of the runs in one table, the share of each
term, figures by class, costs, the teachers with the digests of their weights, the versions and the
configs. With --images, the student alone and the first distilled run predict images of the
validation set, and those that differ most are shown; both need their checkpoints.
"""
import argparse
import os
import sys
from typing import Any, Dict, List, Sequence

from command import Parser, run
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from mmkd.files.checkpoint import read_checkpoint
from mmkd.files.fit import load_exactly
from mmkd.networks.frozen import model_config
from mmkd.points.recorder import evaluating
from mmkd.reports.pictures import Drawer, scaled_labels
from mmkd.reports.run import ALONE, DISTILLED, as_page, roles_of, summary_of
from mmkd.reports.runs import Run, read_run
from mmkd.worth.images import labels_are_scaled, loader_of
from mmkd.worth.scores import compared

MOST = 100
"""Images of the validation set among which those that differ most are chosen."""


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR', help='work dirs of runs: '
                        'distilled ones, the student alone, the teacher')
    parser.add_argument('--out', default='report.html', metavar='FILE',
                        help='report.html by default')
    parser.add_argument('--names', nargs='+', help='names of the runs in the page; by default '
                        'their paths, without what is equal')
    parser.add_argument('--images', type=int, default=0, metavar='N', help='also show N images on '
                        f'which distillation changed most, of {MOST} of the validation set')
    args = parser.parse_args()
    if args.names and len(args.names) != len(args.work_dirs):
        parser.error(f'--names has {len(args.names)} names for {len(args.work_dirs)} work dirs; '
                     'write one for each')
    if args.images < 0:
        parser.error(f'--images must be 0 or more, but got {args.images}; use for instance 4')
    folder = os.path.dirname(os.path.abspath(args.out))
    if not os.path.isdir(folder):
        parser.error(f'--out {args.out}: the folder {folder} does not exist; create it, or use '
                     'another path')
    return args


def main() -> None:
    args = parse_args()
    names = args.names or short_names(args.work_dirs)
    if len(set(names)) < len(names):
        raise ValueError(f'two runs have the same name in {", ".join(names)}; write each work dir '
                         'once, or give --names')
    runs = [read_run(folder, name) for folder, name in zip(args.work_dirs, names)]
    pictures = pictures_of(runs, args.images) if args.images else []
    text = as_page(runs, pictures, 'Command: ' + ' '.join(sys.argv))
    with open(args.out, 'w', encoding='utf-8') as file:
        file.write(text)
    titles, rows, remarks = summary_of(runs)
    table = Table(*(Column(one, overflow='fold') for one in titles))
    for row in rows:
        table.add_row(*('' if one is None else escape(str(one)) for one in row))
    Console().print(table, *remarks, f'Written: {args.out}', sep='\n')


def short_names(folders: Sequence[str]) -> List[str]:
    """Paths without the parts at the beginning and at the end that all have.

    Example:
        >>> short_names(['runs/dist/seed0', 'runs/student/seed0'])
        ['dist', 'student']
    """
    parts = [os.path.normpath(folder).split(os.sep) for folder in folders]
    if len(parts) == 1:
        return [os.path.join(*parts[0][-2:])]
    for end in (0, -1):
        while all(len(one) > 1 for one in parts) and len({one[end] for one in parts}) == 1:
            parts = [one[1:] if end == 0 else one[:-1] for one in parts]
    return [os.path.join(*one) for one in parts]


def pictures_of(runs: Sequence[Run], count: int) -> List[str]:
    """Images with labels and the predictions of the student alone and of a distilled run.

    Raises:
        ValueError: If one of both runs is missing, or has no checkpoint.
    """
    roles = roles_of(runs)
    chosen: Dict[str, Run] = {}
    for run_ in runs:
        chosen.setdefault(roles[run_.name], run_)
    for role, what in ((ALONE, 'the student alone'), (DISTILLED, 'a distilled run')):
        if role not in chosen or not chosen[role].checkpoint or chosen[role].config is None:
            raise ValueError(f'--images compares the student alone with a distilled run, but '
                             f'{what} with a checkpoint and a config is not among the work dirs; '
                             'add its work dir, or leave out --images')
    config = chosen[DISTILLED].config
    assert config is not None
    with DefaultScope.overwrite_default_scope(config.get('default_scope')):
        alone, distilled = (load(chosen[role]) for role in (ALONE, DISTILLED))
        loader = loader_of(config, config.val_dataloader.dataset, MOST)
        meta = dict(loader.dataset.metainfo)
        is_scaled = labels_are_scaled(config)
        with evaluating(alone), evaluating(distilled):
            agreement, shown = compared(
                dict(student=alone.val_step, teacher=distilled.val_step), loader, is_scaled,
                len(meta.get('classes') or ()), count)
        differences = {one['index']: one for one in agreement.images}
        drawer = Drawer(config, meta)
        rows = []
        for number, one in zip(agreement.most_different(count), shown.examples):
            counts = differences[number]
            sample = scaled_labels(one['student']) if is_scaled else one['student']
            rows.append(drawer.row(sample, [
                (f'{chosen[ALONE].name} (alone)', one['student']),
                (chosen[DISTILLED].name, one['teacher'])],
                f'{os.path.basename(str(sample.get("img_path", "")))}: of {counts["total"]} '
                f'{agreement.result([""] * len(agreement.counts[0]))["unit"]}, '
                f'{counts["teacher"]} found by {chosen[DISTILLED].name} alone, '
                f'{counts["student"]} by the student alone'))
    return [row for row in rows if row]


def load(run_: Run) -> Any:
    """The plain student of a run with its weights."""
    config = Config(run_.config._cfg_dict.to_dict())  # type: ignore[union-attr]
    model = MODELS.build(model_config(config)).eval()
    load_exactly(model, read_checkpoint(run_.checkpoint, whose='student'), run_.checkpoint)
    return model


if __name__ == '__main__':
    run(main)
