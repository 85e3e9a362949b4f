"""The figures of tools/compare.py: those of a run, and the table of all runs."""
import glob
import json
import os
from operator import itemgetter
from statistics import mean, median, stdev
from typing import Any, Dict, List, Optional, Tuple

from mmkd.reports.runs import NOT_SCORES

TITLES = dict(teacher='teacher', student='student alone', kd='student + KD', dist='student + DIST',
              cwd='student + CWD', dist_mimic='student + DIST + mimic')
FIGURES = {'AP': ('coco/bbox_mAP', 100), 'AP50': ('coco/bbox_mAP_50', 100),
           'mIoU': ('mIoU', 1), 'mAcc': ('mAcc', 1),
           'top-1': ('accuracy/top1', 1), 'top-5': ('accuracy/top5', 1),
           'mAP': ('multi-label/mAP', 1), 'F1': ('multi-label/f1-score', 1)}
"""Columns of the tables: name in the log, and factor to per cent."""
GIVEN = 'given'
"""Folder of a teacher whose weights were given by --teacher-checkpoint."""
NOTHING = {'coco/bbox_mAP': 0., 'coco/bbox_mAP_50': 0.}
"""The scores of a validation without a detection, for which mmdet's CocoMetric returns none."""


def read_figures(folder: str) -> Dict[str, Any]:
    """Read the newest log in the folder: figures, their curve, seconds, checkpoint."""
    newest = max(glob.glob(os.path.join(folder, '*', 'vis_data', 'scalars.json')))
    with open(newest) as file:
        lines = [json.loads(line) for line in file]
    scores = [dict(line, **NOTHING) if set(line) <= NOT_SCORES else line for line in lines
              if 'loss' not in line and 'time' in line]
    scores = [line for line in scores if any(key in line for key, _ in FIGURES.values())]
    if not scores:
        raise SystemExit(f'{newest} has no score of a validation, such as '
                         f'{next(iter(FIGURES.values()))[0]}; give the config a `val_dataloader`, '
                         'and a `val_interval` within its schedule')
    figures = figures_of(scores[-1])
    main_key, main_factor = FIGURES[next(iter(figures))]
    with open(os.path.join(folder, 'last_checkpoint')) as file:
        checkpoint = file.read().strip()
    return dict(
        figures,
        curve=[[line['step'], main_factor * line[main_key]] for line in scores],
        seconds=median(line['time'] for line in lines if 'loss' in line),
        checkpoint=checkpoint)


def tested_figures(folder: str) -> Dict[str, float]:
    """The figures of the newest test in the folder.

    Raises:
        SystemExit: If it has none.
    """
    newest = max(glob.glob(os.path.join(folder, '*', '*.json')))
    with open(newest) as file:
        scores = json.load(file)
    figures = figures_of(dict(scores, **NOTHING) if set(scores) <= NOT_SCORES else scores)
    if not figures:
        raise SystemExit(f'{newest} has no score, such as {next(iter(FIGURES.values()))[0]}; give '
                         'the config of the teacher the `val_evaluator` of the students')
    return figures


def figures_of(scores: Dict[str, Any]) -> Dict[str, float]:
    """The columns of the table, in per cent, from scores by their names in a log."""
    return {name: factor * scores[key]
            for name, (key, factor) in FIGURES.items() if key in scores}


def collected_runs(work_dir: str) -> Dict[str, List[Dict[str, Any]]]:
    """The results in a work dir: teacher, student alone, then the others, the best first."""
    runs: Dict[str, List[Dict[str, Any]]] = {}
    for path in glob.glob(os.path.join(work_dir, '*', 'seed*', 'result.json')):
        folder, seed, _ = path[len(work_dir):].strip(os.sep).split(os.sep)
        if seed[len('seed'):].isdigit():
            with open(path) as file:
                result = dict(json.load(file), seed=int(seed[len('seed'):]))
            runs.setdefault(folder, []).append(result)
    given = os.path.join(work_dir, 'teacher', GIVEN, 'result.json')
    if 'teacher' not in runs and os.path.isfile(given):
        with open(given) as file:
            runs['teacher'] = [dict(json.load(file), seed=0)]
    if not runs:
        raise SystemExit(f'no finished run in {work_dir}; train some without --collect first')

    def rank(name: str) -> Tuple[int, float]:
        first = ['teacher', 'student'].index(name) if name in ('teacher', 'student') else 2
        return first, -mean(result[columns_of(result)[0]] for result in runs[name])
    return {name: sorted(runs[name], key=itemgetter('seed')) for name in sorted(runs, key=rank)}


def make_table(runs: Dict[str, List[Dict[str, Any]]],
               intervals: Optional[Dict[str, Tuple[float, float]]] = None) -> str:
    """Markdown: a line per model, mean and standard deviation over its seeds.

    The gain is the difference from the student alone in the first column, by pairs of runs
    (:func:`pairs_of`). A gain over fewer seeds than the row has says over how many. The interval of
    a gain is that over the choice of images, see bootstrap.py.
    """
    intervals = intervals or {}
    columns = next(filter(None, (columns_of(results[0]) for results in runs.values())))
    titles = ['model', 'seeds', *columns, f'gain in {columns[0]}',
              *['95 % over images'] * bool(intervals), 'parameters', 'seconds per iteration']
    rows = [titles, ['---'] * len(titles)]
    for name, results in runs.items():
        if columns_of(results[0]):
            rows.append([title_of(name), str(len(results)),
                         *(spread(results, column) for column in columns),
                         '' if name in ('teacher', 'student') else
                         gain(results, runs.get('student', []), columns[0]),
                         *[ends(intervals.get(name))] * bool(intervals),
                         f'{results[0]["parameters"] / 1e6:.2f} M',
                         f'{mean(r["seconds"] for r in results):.3f}'
                         if 'seconds' in results[0] else ''])
    return ''.join(f'| {" | ".join(row)} |\n' for row in rows)


def remark_on(runs: Dict[str, List[Dict[str, Any]]]) -> str:
    """What the table cannot show; '' if each student has several seeds."""
    is_one = any(len(results) == 1 for name, results in runs.items() if name != 'teacher')
    return ('\nHow much a row with one seed would differ with another is not known: add some by '
            '--seeds.\n') * is_one


def columns_of(result: Dict[str, Any]) -> List[str]:
    """Names of the figures of a run; none for a given teacher
    without a validation set."""
    return [name for name in FIGURES if name in result]


def spread(results: List[Dict[str, Any]], key: str) -> str:
    values = [result[key] for result in results]
    return f'{mean(values):.1f}' + (f' ± {stdev(values):.1f}' if len(values) > 1 else '')


def ends(interval: Optional[Tuple[float, float]]) -> str:
    return '' if interval is None else f'{interval[0]:+.1f} to {interval[1]:+.1f}'


def gain(results: List[Dict[str, Any]], alone: List[Dict[str, Any]], key: str) -> str:
    """Mean and standard deviation of the differences between comparable runs."""
    values = [result[key] - other[key] for result, other in pairs_of(results, alone)]
    if not values:
        return 'not comparable' if alone else ''
    text = f'{mean(values):+.1f}' + (f' ± {stdev(values):.1f}' if len(values) > 1 else '')
    return text + (f' ({len(values)} of {len(results)})' if len(values) < len(results) else '')


def pairs_of(results: List[Dict[str, Any]], alone: List[Dict[str, Any]]
             ) -> List[Tuple[Dict[str, Any], Dict[str, Any]]]:
    """Runs with the student alone of the same seed, data, and number of epochs or iterations.

    Such runs start from the same weights of the student, and see the same images in the same order.
    """
    def kind(result: Dict[str, Any]) -> Tuple[Any, ...]:
        data = {key: value for key, value in result.get('fingerprint', {}).items()
                if '_dataloader' in key}
        return result['seed'], data, [step for step, _ in result['curve'][-1:]]
    return [(result, other) for result in results for other in alone if kind(result) == kind(other)]


def title_of(name: str) -> str:
    for known in sorted(TITLES, key=len, reverse=True):
        if name.startswith(known):
            return TITLES[known] + name[len(known):]
    return f'student + {name}'
