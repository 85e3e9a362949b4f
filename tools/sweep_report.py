"""The report of tools/sweep.py: the settings beside each other, and all trials."""
import json
import os
from statistics import mean, stdev
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from label_files import write_whole
from sweep_space import ALONE, Setting


class Trial(NamedTuple):
    """A trial of a sweep."""
    folder: str
    setting: Setting
    seed: int
    state: str
    """'finished', 'cut', 'interrupted' or 'failed'."""
    curve: List[Any]
    """[epoch or iteration, score] of each validation."""
    seconds: float
    """Of the whole training, with its validations."""
    per_iteration: Optional[float] = None
    final: Optional[float] = None
    """The score on the test data of the config; None if it was not tested."""
    why: str = ''
    """Why it failed."""

    @property
    def score(self) -> Optional[float]:
        """The last score of a finished trial; None for another one."""
        return self.curve[-1][1] if self.state == 'finished' else None


class Row(NamedTuple):
    """A setting with all of its finished trials."""
    setting: Setting
    trials: List[Trial]

    @property
    def mean(self) -> float:
        """Mean of the scores over seeds."""
        return mean(one.score for one in self.trials if one.score is not None)


def rows_of(trials: Sequence[Trial]) -> List[Row]:
    """Settings with finished trials: those with most seeds first, among them the best first."""
    found: Dict[Setting, List[Trial]] = {}
    for one in trials:
        if one.score is not None:
            found.setdefault(one.setting, []).append(one)
    rows = [Row(*item) for item in found.items()]
    return sorted(rows, key=lambda row: (-len({one.seed for one in row.trials}), -row.mean))


def chosen(trials: Sequence[Trial]) -> Optional[Row]:
    """The best distilled setting among those with most seeds; None if none is finished."""
    return next((row for row in rows_of(trials) if row.setting.method != ALONE), None)


def spread(values: Sequence[Optional[float]]) -> str:
    """Mean and standard deviation.

    Example:
        >>> spread([0.5, 0.52]), spread([0.5]), spread([None])
        ('0.5100 ± 0.0141', '0.5000', '')
    """
    known = [one for one in values if one is not None]
    return '' if not known else f'{mean(known):.4f}' + (
        f' ± {stdev(known):.4f}' if len(known) > 1 else '')


def table(titles: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown."""
    return ''.join(f'| {" | ".join(map(str, row))} |\n'
                   for row in [titles, ['---'] * len(titles), *rows])


def as_text(trials: Sequence[Trial], about: Dict[str, Any]) -> str:
    """The report in Markdown.

    Args:
        trials (Sequence[Trial]): The trials, in order.
        about (dict): ``student``, ``teacher``, ``chosen_on``, ``hours``, ``spent`` (hours),
            ``metric`` and ``best_config``.
    """
    rows = []
    for row in rows_of(trials):
        seconds = [one.per_iteration for one in row.trials if one.per_iteration is not None]
        rows.append([row.setting.shown(), len({one.seed for one in row.trials}),
                     spread([one.score for one in row.trials]),
                     spread([one.final for one in row.trials]),
                     f'{mean(seconds):.3f}' if seconds else ''])
    best, alone = chosen(trials), next(
        (row for row in rows_of(trials) if row.setting.method == ALONE), None)
    lines = [f'# Sweep of {os.path.basename(about["student"])} with '
             f'{os.path.basename(about["teacher"])}', '']
    if best is not None:
        seeds = len({one.seed for one in best.trials})
        lines.append(f'Chosen: {best.setting.shown()}, {about["metric"]} '
                     f'{spread([one.score for one in best.trials])} over {seeds} '
                     f'seed{"s" * (seeds != 1)} on {about["chosen_on"]}' + (
                         f'; the student alone has {spread([one.score for one in alone.trials])}.'
                         if alone else '; the student alone was not trained.'))
        lines.append(f'Its config is `{about["best_config"]}`.')
    else:
        lines.append('No distilled trial has finished yet.')
    states = {state: sum(one.state == state for one in trials)
              for state in ('finished', 'cut', 'interrupted', 'failed')}
    lines += ['', ', '.join(f'{count} {state}' for state, count in states.items() if count) +
              f' of {len(trials)} trials in {about["spent"]:.2f} of {about["hours"]:g} hours.', '',
              '## Settings', '', table(
                  ['setting', 'seeds', f'{about["metric"]}, {about["chosen_on"]}', 'test data',
                   'seconds per iteration'], rows), '## Trials', '', table(
                  ['trial', 'setting', 'seed', 'state', 'last score', 'at', 'minutes'],
                  [[one.folder, one.setting.shown(), one.seed,
                    one.state + (f': {" ".join(one.why.split())}' if one.why else ''),
                    f'{one.curve[-1][1]:.4f}' if one.curve else '',
                    one.curve[-1][0] if one.curve else '', f'{one.seconds / 60:.1f}']
                   for one in trials])]
    return '\n'.join(lines)


def write_report(work_dir: str, trials: Sequence[Trial], about: Dict[str, Any]) -> str:
    """Write `sweep.md` and `sweep.json`; the text."""
    text = as_text(trials, about)
    best = chosen(trials)
    write_whole(os.path.join(work_dir, 'sweep.md'), text)
    write_whole(os.path.join(work_dir, 'sweep.json'), json.dumps(dict(
        about, chosen=None if best is None else best.setting._asdict(),
        settings=[dict(row.setting._asdict(), mean=row.mean,
                       scores=[one.score for one in row.trials],
                       final=[one.final for one in row.trials],
                       seeds=[one.seed for one in row.trials]) for row in rows_of(trials)],
        trials=[dict(one._asdict(), setting=one.setting._asdict()) for one in trials]), indent=1))
    return text
