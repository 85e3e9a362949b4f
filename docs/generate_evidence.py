"""Write the table of evidence in docs/results/README.md, from the results.json of each page.

    python docs/generate_evidence.py

tests/test_docs/test_generated.py compares the page with the files. A file is the `results.json` of
`tools/compare.py FOLDER --collect`, or a part of one.
"""
import json
from functools import reduce
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

RESULTS = Path(__file__).resolve().parent / 'results'
PAGE = RESULTS / 'README.md'
BEGIN, END = '<!-- begin: docs/generate_evidence.py -->\n', '<!-- end -->\n'
FIGURES = 'AP', 'bbox_mAP', 'mIoU'
"""Names of the scores in the files."""
TITLES = dict(dist_mimic='dist+mimic', dist_pseudo_labels='dist+labels',
              dist_all='dist on all images', mgd='mgd+cwd')
"""What a student is called in the table, if not by the name of its run."""

Runs = Dict[str, List[Tuple[int, float]]]
"""Seed and score of each run, by the name of the student."""


class Row(NamedTuple):
    """A pair of models and its data."""
    title: str
    page: str
    """Folder of docs/results."""
    auto: str
    """Name of the run of the method that ``--method auto`` takes."""
    part: Tuple[str, ...] = ()
    """Keys that lead to the runs within results.json."""
    others: Tuple[str, ...] = ()
    """Names of runs with one other method."""
    combinations: Tuple[str, ...] = ()
    """Names of runs with several terms."""


ROWS = [
    Row('one-stage', 'bccd', 'dist', others=('cwd', )),
    Row('two-stage', 'bccd_faster_rcnn', 'dist_mimic', combinations=('dist_mimic', )),
    Row('queries', 'bccd_methods', 'pkd', ('deformable_detr', ), others=('pkd', )),
    Row('segmentation', 'camvid_methods', 'cwd', ('runs', ),
        others=('cwd', 'freekd', 'kt', 'at', 'dsd'), combinations=('mgd', )),
    Row('segmentation, from scratch', 'camvid', 'cwd'),
    Row('one class', 'raccoon', 'dist', others=('pkd', )),
    Row('20 labels', 'few_labels', 'dist',
        ('bccd_10', 'runs'), others=('dist_all', ), combinations=('dist_pseudo_labels', )),
    Row('51 labels', 'few_labels', 'dist', ('bccd_25', 'runs'),
        combinations=('dist_pseudo_labels', )),
    Row('205 labels', 'few_labels', 'dist', ('bccd_100', 'runs')),
    Row('37 labels', 'few_labels', 'cwd', ('camvid_10', 'runs'),
        combinations=('dist_pseudo_labels', )),
]


def runs_of(row: Row) -> Runs:
    """The runs of a row.

    Raises:
        KeyError: If its file has no such part.
    """
    whole = json.loads((RESULTS / row.page / 'results.json').read_text())
    part = reduce(lambda node, key: node[key], row.part, whole)
    runs = {'teacher': whole.get('teacher', []), **part}
    return {name: [(one.get('seed', 0), score_of(one))
                   for one in (results if isinstance(results, list) else [results])]
            for name, results in runs.items()}


def score_of(run: Dict[str, Any]) -> float:
    """The main score of a run, in per cent."""
    return float(next(run[name] for name in FIGURES if name in run))


def gains_of(runs: Runs, name: str) -> List[float]:
    """Scores minus those of the student alone with the same seed."""
    alone = dict(runs['student'])
    return [score - alone[seed] for seed, score in runs[name] if seed in alone]


def spread_of(runs: Runs, *names: str) -> Optional[float]:
    """The largest standard deviation over the seeds; None with one seed."""
    several = [[score for _, score in runs[name]] for name in names]
    return max(map(stdev, several)) if all(len(scores) > 1 for scores in several) else None


def best_of(runs: Runs, names: Tuple[str, ...]) -> str:
    """The student with the highest mean among those with the most seeds; '' without any."""
    return max((name for name in names if name in runs), default='',
               key=lambda name: (len(runs[name]), mean(score for _, score in runs[name])))


def cell(runs: Runs, name: str, with_name: bool = False) -> str:
    """Mean ± standard deviation, and the number of seeds if there are less than three."""
    if name not in runs:
        return '–'
    scores = [score for _, score in runs[name]]
    text = f'{mean(scores):.1f}' + (f' ± {stdev(scores):.1f}' if len(scores) > 1 else '')
    if len(scores) < 3 and name != 'teacher':
        text += f' ({len(scores)} seed{"s" * (len(scores) > 1)})'
    return f'{TITLES.get(name, name)}<br>{text}' if with_name else text


def line_of(row: Row) -> List[str]:
    """The cells of a row."""
    runs = runs_of(row)
    other, combination = best_of(runs, row.others), best_of(runs, row.combinations)
    best = best_of(runs, ('kd', 'dist', other, combination))
    gains, spread = gains_of(runs, best), spread_of(runs, 'student', best)
    alone, teacher = (mean(score for _, score in runs[name]) for name in ('student', 'teacher'))
    gain = f'{mean(gains):+.1f}'
    if spread is not None:
        gain += f' ± {stdev(gains):.1f}'
        gain = f'**{gain}**' if mean(gains) > 2 * spread else gain
        gain += f'<br>{mean(gains) / spread:.1f} spreads'
    return [f'[{row.title}]({row.page})', cell(runs, 'teacher'), cell(runs, 'student'),
            cell(runs, 'kd'), cell(runs, 'dist'), gain,
            f'{mean(gains) / (teacher - alone):.0%}', cell(runs, other, True),
            cell(runs, combination, True), TITLES.get(row.auto, row.auto)]


def table() -> str:
    """The table, in Markdown."""
    titles = ['', 'teacher', 'alone', 'KD', 'DIST', 'gain', 'way', 'another', 'several', '`auto`']
    rows = [titles, ['---'] * len(titles), *map(line_of, ROWS)]
    return ''.join(f'| {" | ".join(row)} |\n' for row in rows)


def page() -> str:
    """The whole page, with the table of today."""
    text = PAGE.read_text()
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    return f'{text[:begin]}\n{table()}\n{text[end:]}'  # a table begins after an empty line


if __name__ == '__main__':
    PAGE.write_text(page())
