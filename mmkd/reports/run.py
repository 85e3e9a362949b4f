"""The report of runs: one page."""
import os
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ..training.shares import SCALAR
from .charts import Line, chart
from .page import code, folded, heading, page, paragraph, table
from .runs import Run

ALONE, TEACHER, DISTILLED = 'student alone', 'teacher', 'distilled'


def roles_of(runs: Sequence[Run]) -> Dict[str, str]:
    """Which of the runs is the student alone, and which a teacher?

    A run without distillation is the student alone if its model is the student of a distilled run,
    and a teacher if its checkpoint has the SHA-256 that a distilled run has recorded.

    Returns:
        dict[str, str]: By name of the run; '' if it is neither.
    """
    distilled = [run for run in runs if run.is_distilled]
    students = [model_of(run) for run in distilled]
    hashes = {network.get('checkpoint_hash') for run in distilled
              for network in run.record.get('networks', {}).values()} - {None, ''}
    roles = {}
    for run in runs:
        if run.is_distilled:
            roles[run.name] = DISTILLED
        elif model_of(run) and model_of(run) in students:
            roles[run.name] = ALONE
        elif hashes and run.checkpoint_hash in hashes:
            roles[run.name] = TEACHER
        else:
            roles[run.name] = ''
    return roles


def model_of(run: Run) -> Any:
    """The config of the student, without scopes that MMEngine adds."""
    model = dict((run.config or {}).get('model') or {})
    return _plain(model.get('student', model))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items() if key != '_scope_'}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value


def as_page(runs: Sequence[Run], pictures: Sequence[str] = (), command: str = '') -> str:
    """The report as one file of HTML.

    Args:
        runs (Sequence[Run]): From :func:`mmkd.reports.runs.read_run`.
        pictures (Sequence[str]): Rows of :class:`mmkd.reports.pictures.Drawer`. Defaults to ().
        command (str): The command that made it. Defaults to ''.
    """
    titles, rows, remarks = summary_of(runs)
    title = runs[0].name if len(runs) == 1 else f'{len(runs)} runs'
    body = [heading(f'Report of {title}', 1), table(titles, rows),
            *(paragraph(one, 'faint') for one in remarks)]
    body += _part('Scores', [_scores(runs, metric) for metric in _first(runs)])
    body += _part('Losses', _losses(runs))
    body += _part('Share of each term', [one for run in runs for one in _shares(run)])
    body += _classes(runs)
    if pictures:
        body += [heading('Images on which distillation changed most'), *pictures]
    body += _costs(runs)
    body += _origin(runs)
    notes = [f'{run.name}: {note}' for run in runs for note in run.notes]
    body += [heading('Not read'), *map(paragraph, notes)] if notes else []
    body.append(paragraph(command, 'faint'))
    return page(f'Report of {title}', body)


def _part(title: str, charts: Sequence[str]) -> List[str]:
    charts = [one for one in charts if one]
    return [heading(title), '<div class="grid">', *charts, '</div>'] if charts else []


def summary_of(runs: Sequence[Run]) -> Tuple[List[str], List[List[Any]], List[str]]:
    """The scores of runs in a few rows.

    Returns:
        tuple[list[str], list[list], list[str]]: Titles, a row for each run, and remarks.
    """
    roles = roles_of(runs)
    metric = next((run.metric for run in runs if run.metric), '')
    alone = [run.last(metric) for run in runs if roles[run.name] == ALONE]
    rows = []
    for run in runs:
        last = run.last(metric) if metric else None
        rows.append([run.name, roles[run.name], last,
                     max((y for _, y in run.scores(metric)), default=None),
                     _signed(last, alone[0]) if alone and roles[run.name] == DISTILLED else None,
                     int(run.training[-1]['step']) if run.training else None])
    remarks = []
    if any(run.is_distilled for run in runs):
        remarks = ['' if alone else 'The student alone is not among these runs: add its work dir '
                   'to see what distillation changed.',
                   'One run of the student alone does not show how much its score depends on the '
                   'seed; `python -m mmkd compare` trains several.' if len(alone) == 1 else '']
    return (['run', 'is', f'{metric}, last', 'best', 'beside alone', 'iterations'], rows,
            [one for one in remarks if one])


def _signed(value: Optional[float], other: Optional[float]) -> Optional[str]:
    return None if value is None or other is None else f'{value - other:+.3g}'


def _first(runs: Sequence[Run]) -> List[str]:
    """The metrics to plot: the one that decides, and up to three more."""
    names = list({key: None for run in runs for key in run.metrics})
    main = next((run.metric for run in runs if run.metric), '')
    return [*[main] * bool(main), *[name for name in names if name != main][:3]]


def _scores(runs: Sequence[Run], metric: str) -> str:
    lines = [Line(run.name, run.scores(metric), number, has_marks=len(run.scores(metric)) < 30)
             for number, run in enumerate(runs)]
    by_epoch = any('epoch' in line for run in runs for line in run.training)
    return chart(metric, lines, 'epoch' if by_epoch else 'iteration', 'on the validation set')


def _losses(runs: Sequence[Run]) -> List[str]:
    """A chart for each loss, those of the task first; a line for each run."""
    terms = list({name: None for run in runs for name in run.terms})
    names = list({name: None for run in runs for name in run.losses})
    names.sort(key=lambda name: name in terms)
    charts = []
    for name in ['loss', *names]:
        lines = [Line(run.name, run.series(name), number) for number, run in enumerate(runs)]
        kind = ('sum of all losses' if name == 'loss' else
                'of distillation' if name in terms else 'of the task')
        charts.append(chart(name, lines, 'iteration', f'{kind}, as logged', log=_is_wide(lines)))
    if any(run.series('grad_norm') for run in runs):
        charts.append(chart('grad_norm', [Line(run.name, run.series('grad_norm'), number)
                                          for number, run in enumerate(runs)], 'iteration',
                            'norm of the gradient of all parameters, before clipping', log=True))
    return charts


def _is_wide(lines: Sequence[Line]) -> bool:
    """Whether lines need a logarithmic axis."""
    values = [value for line in lines for _, value in line.points if value > 0]
    return bool(values) and max(values) > 20 * min(values)


def _shares(run: Run) -> List[str]:
    """The share of each term in the total, and logged shares of gradients."""
    charts = []
    if run.terms:
        lines = []
        for number, name in enumerate(run.losses):
            points = [(line['step'], line[name] / line['loss']) for line in run.training
                      if line.get('loss') and isinstance(line.get(name), (int, float))]
            lines.append(Line(name, points, number, is_dashed=name not in run.terms))
        charts.append(chart(f'{run.name}: share of each loss', lines, 'iteration',
                            'of the total; dashed: losses of the task', y_from=0.))
    if run.shares:
        lines = [Line(name.removeprefix(SCALAR), run.series(name), number,
                      has_marks=len(run.series(name)) < 30)
                 for number, name in enumerate(run.shares)]
        charts.append(chart(
            f'{run.name}: share of gradients', lines, 'iteration',
            'norm of the gradient of each term, divided by that of the losses on labels',
            **(dict(log=True) if _is_wide(lines) else dict(y_from=0.))))
    return charts


def _classes(runs: Sequence[Run]) -> List[str]:
    names = list({name: None for run in runs for name in run.by_class})
    if not names:
        return []
    first = {run.name: next(iter(next(iter(run.by_class.values()))), '') for run in runs
             if run.by_class}
    figures = sorted(set(first.values()))
    rows = [[name, *(run.by_class.get(name, {}).get(first.get(run.name, ''))
                     for run in runs)] for name in names]
    return [heading('Class by class'), table(['class', *(run.name for run in runs)], rows, (
        f'{", ".join(figures)} in per cent, of the newest evaluation'))]


def _costs(runs: Sequence[Run]) -> List[str]:
    rows = []
    for run in runs:
        seconds = run.seconds
        steps = run.training[-1]['step'] if run.training else 0
        rows.append([run.name, seconds, None if seconds is None else seconds * steps / 3600,
                     run.memory])
    titles = ['run', 'seconds per iteration', 'hours of training', 'GPU memory, MiB']
    if all(row[3] is None for row in rows):
        titles, rows = titles[:3], [row[:3] for row in rows]
    return [heading('Costs'), table(titles, rows)]


def _origin(runs: Sequence[Run]) -> List[str]:
    """Teachers, terms, versions and configs."""
    found = [heading('Where the weights come from')]
    for run in runs:
        found.append(heading(run.name, 3))
        networks = run.record.get('networks', {})
        if networks:
            found.append(table(['network', 'type', 'config', 'checkpoint', 'SHA-256'], [
                [name, one.get('type'), one.get('config') or one.get('build'),
                 one.get('checkpoint'), str(one.get('checkpoint_hash') or '')[:16]]
                for name, one in networks.items()]))
        terms = run.record.get('distill', [])
        if terms:
            found.append(table(['term', 'loss', 'weight', 'student', 'teacher'], [
                [one.get('name'), one.get('loss'), one.get('loss_weight'), one.get('student'),
                 one.get('teacher')] for one in terms]))
        about: List[Tuple[str, Any]] = [('work dir', os.path.abspath(run.folder)),
                                        ('checkpoint', run.checkpoint or 'none')]
        about += list(run.versions.items())
        found.append(table(['', ''], about))
        if run.config_text:
            found.append(folded('config', code(run.config_text)))
    return found
