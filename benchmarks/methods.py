"""Measure what a training step takes with every method of --method, on pairs of five kinds.

    python benchmarks/methods.py --out docs/results/methods
    python benchmarks/methods.py --pairs pspnet --methods cirkd cwd --rounds 3

benchmark.py measures a few methods at a time, so that no more models are in memory than fit: each
beside the student alone, the teacher's complete forward, and the same entries with a loss that
computes nothing. All times of a row are ratios within one such group. A group that has been
measured is not measured again; delete its folder in the work dir to repeat it. If it was measured
with --no-memory, a call without it adds the memory. Other pairs and methods of an earlier call stay
in the output. Methods with a first stage get a file with random tokens.

Output: `costs.json` and `costs.md`. docs/generate_methods.py puts the former into docs/methods.md.
"""
import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any, Dict, List, NamedTuple, Optional

import tools_on_path  # noqa: F401
from command import Parser, last_words, run
from common import read_config
from first_stages import random_first_stages
from measuring import as_table
from mmengine.config import Config
from mmengine.logging import MMLogger
from steps import STUDENT, TEACHER, WITHOUT, without_weights

from mmkd.inspection import entries_of, inspect_pair
from mmkd.losses import METHODS

HERE = Path(__file__).resolve().parent


class Models(NamedTuple):
    """A pair of models for the measurements."""
    title: str
    student: str
    teacher: str


PAIRS = dict(
    retinanet=Models('RetinaNet', 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py',
                     'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'),
    faster_rcnn=Models('Faster R-CNN', str(HERE / 'models' / 'faster_rcnn_r18_coco.py'),
                       'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'),
    gfl=Models('GFL', str(HERE / 'models' / 'gfl_r18_coco.py'),
               'mmdet::gfl/gfl_r50_fpn_1x_coco.py'),
    deformable_detr=Models('Deformable DETR', str(HERE / 'models' / 'deformable_detr_r18_coco.py'),
                           'mmdet::deformable_detr/deformable-detr_r50_16xb2-50e_coco.py'),
    pspnet=Models('PSPNet', 'mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py',
                  'mmseg::pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py'))


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--pairs', nargs='+', choices=PAIRS, default=list(PAIRS))
    parser.add_argument('--student', help='another student instead, with --teacher')
    parser.add_argument('--teacher')
    parser.add_argument('--methods', nargs='+', default=['all'], help='all by default')
    parser.add_argument('--at-once', type=int, default=3,
                        help='how many methods are in memory together; 3 by default')
    parser.add_argument('--size', type=int, nargs=2, default=[512, 512], metavar=('H', 'W'))
    parser.add_argument('--batch-size', type=int, default=2)
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--no-memory', action='store_true')
    parser.add_argument('--work-dir', default='work_dirs/methods', help='of the groups')
    parser.add_argument('--out', help='folder of the results; by default the work dir')
    args = parser.parse_args()
    if bool(args.student) != bool(args.teacher):
        parser.error('--student goes with --teacher')
    return args


def main() -> None:
    args = parse_args()
    MMLogger.get_instance('methods', log_level='ERROR')
    names = list(METHODS) if args.methods == ['all'] else args.methods
    pairs = {'given': Models('pair', args.student, args.teacher)} if args.student else {
        name: PAIRS[name] for name in args.pairs}
    out = Path(args.out or args.work_dir)
    path = out / 'costs.json'
    # Pairs of an earlier call stay: the sizes of images may differ between pairs.
    found: Dict[str, Any] = dict(
        pairs=json.loads(path.read_text())['pairs'] if path.is_file() else {})
    for name, pair in pairs.items():
        fitting, problems = fitting_methods(pair, names)
        rows: Dict[str, Any] = {}
        machine = ''
        for first in range(0, len(fitting), args.at_once):
            group = fitting[first:first + args.at_once]
            measured = measured_group(args, name, pair, group)
            machine = measured.pop('machine', machine)
            rows.update(measured)
        found['pairs'][name] = joined(
            found['pairs'].get(name), dict(
                title=pair.title, student=shown(pair.student), teacher=shown(pair.teacher),
                machine=machine, methods=rows, left_out=problems))
    found['methods'] = cells_of(found['pairs'])
    found['note'] = note_of(found['pairs'])
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + '\n')
    text = found['note'] + '\n\n' + '\n'.join(map(table_of_pair, found['pairs'].values()))
    (out / 'costs.md').write_text(text)
    print(f'\n{text}\nWritten to {out}')


def shown(config: str) -> str:
    """The path of a config, from the root of the project if it is in it."""
    inside = os.path.relpath(config, HERE.parent)
    return config if '::' in config or inside.startswith('..') else inside


def joined(earlier: Optional[Dict[str, Any]], found: Dict[str, Any]) -> Dict[str, Any]:
    """Add the methods of an earlier call to a pair.

    A method that fails now keeps its figures of before.

    Raises:
        SystemExit: If the earlier call was on other models, or measured otherwise.
    """
    if not earlier:
        return found
    now, before = ([one['student'], one['teacher'], one['machine'] or earlier['machine']]
                   for one in (found, earlier))
    if now != before:
        raise SystemExit(
            f'--out has figures of {found["title"]} that were measured otherwise ({before}), but '
            f'now it is {now}; give another --out, what was measured is kept in --work-dir')
    measured = {name: row for name, row in found['methods'].items()
                if 'failed' not in row or name not in earlier['methods']}
    methods = {**earlier['methods'], **measured}
    left_out = {**earlier['left_out'], **found['left_out']}
    return dict(found, machine=now[2], methods=methods, left_out={
        name: why for name, why in left_out.items() if name not in methods})


def fitting_methods(pair: Models, names: List[str]) -> Any:
    """Return the methods that support a pair, and the reasons for the others."""
    teacher = read_config(pair.teacher)
    inspected = inspect_pair(read_config(pair.student), teacher)
    files, _ = random_first_stages(names, Config(without_weights(teacher)), inspected.kinds, None)
    fitting, problems = [], {}
    for name in names:
        try:
            entries_of(name, inspected, files)
            fitting.append(name)
        except ValueError as error:
            problems[name] = str(error)
    return fitting, problems


def measured_group(args: argparse.Namespace, pair: str, models: Models, group: List[str]
                   ) -> Dict[str, Any]:
    """Measure a group of methods together, or one by one if that fails."""
    folder = os.path.join(args.work_dir, f'{pair}_{"_".join(group)}')
    path = os.path.join(folder, 'benchmark.json')
    given = ['--student', models.student, '--teacher', models.teacher, '--methods', *group,
             '--terms', '--size', *args.size, '--batch-size', args.batch_size]
    if not os.path.isfile(path):
        print(f'{pair}: {", ".join(group)}', flush=True)
        failure = benchmark(folder, *given, '--rounds', args.rounds,
                            *['--no-memory'] * args.no_memory)
        if failure and len(group) == 1:
            return {group[0]: dict(failed=failure)}
        if failure:
            return {key: value for one in group
                    for key, value in measured_group(args, pair, models, [one]).items()}
    found = read_json(path)
    steps, = found['steps'].values()
    if not steps['memory'] and not args.no_memory:
        print(f'{pair}: memory of {", ".join(group)}', flush=True)
        failure = benchmark(os.path.join(folder, 'memory'), *given, '--no-times')
        if not failure:
            of_memory, = read_json(
                os.path.join(folder, 'memory', 'benchmark.json'))['steps'].values()
            steps.update(of_memory)
            Path(path).write_text(json.dumps(found, indent=1))
    return {'machine': found['machine'], **figures_of(steps, group)}


def benchmark(folder: str, *arguments: Any) -> str:
    """Run benchmark.py; what it said if it failed, otherwise ''."""
    ended = subprocess.run(
        [sys.executable, '-W', 'ignore', str(HERE / 'benchmark.py'), *map(str, arguments),
         '--work-dir', folder], capture_output=True, text=True)
    if ended.returncode:
        print(f'failed: {last_words(ended.stderr)}', flush=True)
        return last_words(ended.stderr)
    return ''


def read_json(path: str) -> Dict[str, Any]:
    with open(path) as file:
        found: Dict[str, Any] = json.load(file)
    return found


def figures_of(steps: Dict[str, Any], group: List[str]) -> Dict[str, Dict[str, float]]:
    """Return the ratios of a group, from benchmark.json: of each round, and their medians."""
    seconds, memory, rows = steps['seconds'], steps['memory'], {}
    for name in group:
        parts = list(zip(seconds[name], seconds[f'{name}, {WITHOUT}'], seconds[STUDENT],
                         seconds[TEACHER]))
        terms = [(own - without) / student for own, without, student, _ in parts]
        row = rows[name] = dict(
            step=median(own / student for own, _, student, _ in parts),
            of_both=median(own / (student + teacher) for own, _, student, teacher in parts),
            term=median(terms), spread=(max(terms) - min(terms)) / 2,
            parameters=steps['parameters'][name], student_seconds=median(seconds[STUDENT]))
        if memory:
            row['memory'] = memory[name]['peak'] / memory[STUDENT]['peak']
    return rows


def cells_of(pairs: Dict[str, Any]) -> Dict[str, Dict[str, str]]:
    """Return the text about each method for docs/methods.md."""
    cells: Dict[str, Dict[str, List[str]]] = {}
    for pair in pairs.values():
        for name, row in pair['methods'].items():
            cell = cells.setdefault(name, dict(parameters=[], step=[]))
            if 'failed' in row:
                continue
            cell['step'].append(f'{pair["title"]} {row["of_both"]:.2f} ({term_of(row)})')
            if row['parameters']:
                cell['parameters'].append(f'{pair["title"]} {millions(row["parameters"])}')
    return {name: {key: '<br>'.join(values) or '0' for key, values in cell.items()}
            for name, cell in cells.items()}


def term_of(row: Dict[str, float]) -> str:
    return f'{100 * row["term"]:+.0f} ± {100 * row["spread"]:.0f} %'


def millions(count: float) -> str:
    return f'{count / 1e6:.2f} M'


def note_of(pairs: Dict[str, Any]) -> str:
    machines = ' '.join(f'{pair["title"]}: {pair["machine"]}' for pair in pairs.values())
    return ('The last columns: trained parameters of layers and connectors outside the student; '
            'time of a training step, divided by that of the student alone plus a complete forward '
            'of the teacher (in brackets, what the losses take, as a share of the step of the '
            'student alone, ± half the range over the rounds: what is within it is noise). '
            f'{machines} Weights and images are random.')


def table_of_pair(pair: Dict[str, Any]) -> str:
    rows = [['method', 'step / student alone', 'step / (student alone + whole teacher)',
             'losses / student alone', 'peak memory / student alone', 'parameters']]
    for name, row in pair['methods'].items():
        rows.append([name, f'failed: {row["failed"].splitlines()[-1]}', '', '', '', '']
                    if 'failed' in row else
                    [name, f'{row["step"]:.2f}', f'{row["of_both"]:.2f}', term_of(row),
                     f'{row["memory"]:.2f}' if 'memory' in row else '',
                     millions(row['parameters']) if row['parameters'] else '0'])
    left_out = ', '.join(pair['left_out'])
    return (f'## {pair["title"]}\n\n`{pair["student"]}`, `{pair["teacher"]}`\n\n{as_table(rows)}' +
            (f'\nNot for this pair: {left_out}.\n' if left_out else ''))


if __name__ == '__main__':
    run(main)
