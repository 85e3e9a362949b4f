"""Write the tables and the figure of this page from results.json.

    python docs/results/few_labels/write.py
    python docs/results/few_labels/write.py --collect work_dirs   # results.json first

`--collect` reads the work dirs of `tools/compare.py configs/few_labels/...`.
"""
import argparse
import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Dict, List, NamedTuple, Tuple

HERE = Path(__file__).resolve().parent
PAGE, RESULTS, FIGURE = (HERE / name for name in ('README.md', 'results.json', 'labels.png'))
ALONE = 'student'
OF_ALL = '_teacher_of_all'
STUDENTS = {
    ALONE: 'alone',
    'dist': '+ DIST on the labelled images',
    'dist_all': '+ DIST on all images',
    'pseudo_labels': "+ the teacher's labels for the other images",
    'dist_pseudo_labels': '+ both, DIST on all images',
}
CURVES = {ALONE: 'alone', 'dist': 'DIST on the labelled images',
          'dist_pseudo_labels': "DIST and the teacher's labels on all",
          f'dist_pseudo_labels{OF_ALL}': 'the same, teacher of all labels'}
"""Lines of the figure."""

Runs = Dict[str, List[Dict[str, Any]]]


class Setting(NamedTuple):
    """A folder of configs/few_labels, or another one with the same models."""
    labelled: int
    images: int
    scores: Tuple[str, str]


SETTINGS = {
    'bccd_10': Setting(20, 205, ('AP', 'AP50')),
    'bccd_25': Setting(51, 205, ('AP', 'AP50')),
    'bccd_100': Setting(205, 205, ('AP', 'AP50')),
    'camvid_10': Setting(37, 367, ('mIoU', 'mAcc')),
    'bccd_cells': Setting(205, 205, ('AP', 'AP50')),
}
TABLES = {'bccd': ('bccd_10', 'bccd_25', 'bccd_100'), 'camvid': ('camvid_10', )}
"""Columns of the tables."""


def collect(work_dirs: Path) -> None:
    """Write results.json. A folder without runs keeps those that it has in the file.

    Raises:
        SystemExit: If no folder has runs.
    """
    found: Dict[str, Any] = json.loads(RESULTS.read_text())
    if not any((work_dirs / name).is_dir() for name in SETTINGS):
        raise SystemExit(f'{work_dirs} has none of {", ".join(SETTINGS)}; give the folder of the '
                         'work dirs')
    for name, setting in SETTINGS.items():
        runs: Runs = {}
        for path in sorted((work_dirs / name).glob('*/seed*/result.json')):
            result = json.loads(path.read_text())
            runs.setdefault(path.parts[-3], []).append(dict(
                seed=int(path.parts[-2].removeprefix('seed')),
                **{score: round(result[score], 2) for score in setting.scores},
                seconds=round(result['seconds'], 3)))
        if not runs:
            print(f'{work_dirs / name} has no runs: those of results.json are kept')
            continue
        found[name] = dict(labelled_images=setting.labelled,
                           unlabelled_images=setting.images - setting.labelled, runs=runs)
    RESULTS.write_text(json.dumps(found, indent=1) + '\n')


def read() -> Dict[str, Runs]:
    """The runs of each folder."""
    return {name: one['runs'] for name, one in json.loads(RESULTS.read_text()).items()}


def spread(values: List[float], form: str = '.1f') -> str:
    """Mean ± standard deviation."""
    return f'{mean(values):{form}}' + (f' ± {stdev(values):.1f}' if len(values) > 1 else '')


def cell(runs: Runs, name: str, score: str) -> str:
    """Score, and gain over the student alone with the same seed; '' if there is no run."""
    if name not in runs:
        return ''
    alone = {one['seed']: one[score] for one in runs[ALONE]}
    text = spread([one[score] for one in runs[name]])
    if name not in (ALONE, 'teacher'):
        text += f' ({spread([one[score] - alone[one["seed"]] for one in runs[name]], "+.1f")})'
    return text + ', 1 seed' * (len(runs[name]) == 1 and name != 'teacher')


def table(results: Dict[str, Runs], columns: Tuple[str, ...]) -> str:
    """Markdown: a line per student, a column per number of labels."""
    heads = [f'{SETTINGS[one].labelled} labels' for one in columns]
    names = {**STUDENTS, 'teacher': 'teacher of these labels', **{
        name + OF_ALL: title.replace('+ ', '+ teacher of all labels: ', 1)
        for name, title in STUDENTS.items() if name != ALONE}}
    rows = [['student', *heads], ['---'] * (len(heads) + 1)]
    for name, title in names.items():
        cells = [cell(results[one], name, SETTINGS[one].scores[0]) for one in columns]
        rows += [[title, *cells]] * any(cells)
    return ''.join(f'| {" | ".join(row)} |\n' for row in rows)


def page() -> str:
    """The page with the tables of today."""
    text, results = PAGE.read_text(), read()
    for name, columns in TABLES.items():
        begin, end = f'<!-- begin: {name} -->\n', f'<!-- end: {name} -->\n'
        first, last = text.index(begin) + len(begin), text.index(end)
        text = f'{text[:first]}\n{table(results, columns)}\n{text[last:]}'
    return text


def draw() -> None:
    """AP over the number of labels, on BCCD."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot as plt
    results, columns = read(), TABLES['bccd']
    figure, axes = plt.subplots(figsize=(6.4, 3.8))
    for number, (name, title) in enumerate(CURVES.items()):
        points = [(SETTINGS[one].labelled, [run['AP'] for run in results[one][name]])
                  for one in columns if name in results[one]]
        axes.errorbar([x * 1.015**number for x, _ in points], [mean(y) for _, y in points],
                      [stdev(y) if len(y) > 1 else 0. for _, y in points],
                      marker='o', capsize=3, label=title)
    whole = mean(run['AP'] for run in results[columns[-1]][ALONE])
    axes.axhline(whole, color='grey', linestyle=':')
    axes.annotate('all labels, without a teacher', (60, whole - 0.8), color='grey', fontsize=8)
    axes.set_xscale('log')
    ticks = [SETTINGS[one].labelled for one in columns]
    axes.set_xticks(ticks, [f'{one} labels' for one in ticks])
    axes.minorticks_off()
    axes.set_ylabel('AP on BCCD')
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(FIGURE, dpi=130)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--collect', type=Path, metavar='WORK_DIRS',
                        help='write results.json from these work dirs first')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.collect:
        collect(args.collect)
    PAGE.write_text(page())
    draw()


if __name__ == '__main__':
    main()
