"""The report of an examination of a pair: as text, and as a page."""
import html
import os
from io import StringIO
from typing import Any, Dict, List, Optional, Sequence, Tuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..compare.auto_weight import SHARE
from ..core.names import joined
from ..worth import Findings, Recommendation
from ..worth.advice import hidden_share
from .charts import Line, chart
from .page import folded, heading, page, paragraph
from .page import table as html_table

SIDES = 'teacher', 'student'
SPLITS = dict(train='training images', held_out='held-out images')
Rows = Tuple[List[str], List[List[Any]]]


def score_rows(found: Findings) -> Rows:
    """The metrics of both networks."""
    names = list({key: None for one in found.scores.values() for key in one})
    names.sort(key=lambda name: name != found.metric)
    return (['metric', *SIDES],
            [[name, *(found.scores.get(side, {}).get(name) for side in SIDES)] for name in names])


def class_rows(found: Findings) -> Rows:
    """Scores and agreement by class."""
    shares = found.agreement.get('by_class', {})
    names = list({**found.by_class, **shares})
    unit = found.agreement.get('unit', 'objects')
    titles = ['class', *SIDES, unit, 'both', 'teacher alone', 'student alone', 'neither']
    if not found.by_class:
        titles[1:3] = []
    rows = []
    for name in names:
        counts = shares.get(name, {})
        total = sum(counts.values())
        scores = [found.by_class.get(name, {}).get(side) for side in SIDES]
        rows.append([name, *(scores if found.by_class else []), total, *(
            f'{counts[key] / total:.0%}' if total else None
            for key in ('both', 'teacher', 'student', 'neither'))])
    return titles, rows


def point_rows(found: Findings) -> Rows:
    """Both networks at the point, on both splits."""
    rows = []
    for side in SIDES:
        if side not in found.standings:
            continue
        for split, name in SPLITS.items():
            one = getattr(found.standings[side], split)
            if one:
                rows.append([side, name, one['images'], one['positions'], one['accuracy'],
                             one['cross_entropy'], one['error'], one['ece']])
    return ['network', 'on', 'images', 'positions', '% right', 'cross entropy', '±', 'ECE %'], rows


def method_rows(found: Findings) -> Rows:
    """The methods that were measured."""
    alone = found.alone.get('seconds')
    rows: List[List[Any]] = [] if alone is None else [
        ['student alone', '', None, None, alone, 1., _mebibytes(found.alone.get('memory'))]]
    rows += [[one.name, ', '.join(one.on), one.ratio, one.cosine, one.seconds,
              None if not alone or not one.seconds else one.seconds / alone,
              _mebibytes(one.memory)]
             for one in found.methods if not (one.problem or one.is_left_out)]
    return ['method', 'compares', 'gradient / task', 'cosine', 's per step', '/ student alone',
            'MiB'], rows


def _mebibytes(count: Optional[float]) -> Optional[float]:
    return None if count is None else round(count / 2**20)


def costs_text(found: Findings, method: str) -> str:
    """Duration of a training with the recommended method, and when a cache pays."""
    alone = found.alone
    best = next((one for one in found.methods if one.name == method), None)
    lines = []
    if best is not None and best.seconds and alone.get('images'):
        epoch = best.seconds * alone['images'] / alone['batch']
        lines.append(f'An epoch of {alone["images"]} images with {method} takes {duration(epoch)} '
                     'on this machine, without validation' + (
                         f'; {alone["epochs"]} epochs take {duration(epoch * alone["epochs"])}'
                         if alone.get('epochs') else '') + '.')
    cache = found.cache
    if cache:
        per_image = (f'per image {1000 * cache["teacher"]:.0f} ms for the teacher, '
                     f'{1000 * cache["read"]:.0f} ms to read from a cache')
        if cache['epochs'] is None:
            lines.append(f'A cache of the outputs for {cache["method"]} does not pay: {per_image}.')
        else:
            lines.append(f'A cache of the outputs for {cache["method"]} pays after '
                         f'{cache["epochs"]:.1f} epochs with {cache["variants"]} variants of each '
                         f'image: {per_image}; it takes {cache["gigabytes"]:.2f} GiB.')
    return ' '.join(lines)


def shares_text(found: Findings) -> str:
    """The shares of the terms, as a table in Markdown, and what was not measured."""
    rows = [['method', 'term', 'point', 'loss_weight', 'at', 'share', 'cosine',
             f'loss_weight for {SHARE:g}'], ['---'] * 8]
    for one in found.methods:
        for term in one.terms:
            weight = term.weight_for(SHARE)
            rows.append([one.name, term.name, term.on, f'{term.weight:g}', term.shared,
                         f'{term.ratio:.3g}', f'{term.cosine:+.2f}',
                         '' if weight is None else f'{weight:.3g}'])
    return ''.join([*(f'| {" | ".join(row)} |\n' for row in rows),
                    *(f'not measured: {line}\n' for line in left_out(found))])


def duration(seconds: float) -> str:
    """Seconds in words.

    Example:
        >>> duration(45), duration(600), duration(9000)
        ('45 s', '10 min', '2.5 h')
    """
    return (f'{seconds:.0f} s' if seconds < 120 else f'{seconds / 60:.0f} min'
            if seconds < 7200 else f'{seconds / 3600:.1f} h')


def left_out(found: Findings) -> List[str]:
    """What was not measured, and why."""
    late = [one.name for one in found.methods if one.is_left_out]
    return [*found.problems, *(f'{one.name}: {one.problem}' for one in found.methods
                               if one.problem),
            *(f'the gradient of {one.name}: {one.note}' for one in found.methods if one.note),
            *[f'{", ".join(late)}: the time was up; allow more by --minutes'] * bool(late)]


def seen_text(found: Findings) -> str:
    """A warning of validation images that are among the training images."""
    names = joined([os.path.basename(path) for path in found.seen], 3)
    return (f'{len(found.seen)} images of the validation set are among the training images, by the '
            f'content of their files: {names}. They are not held out, so scores and the figures at '
            'the point are too good; remove them from one of both')


def as_text(found: Findings, advice: Recommendation, width: int = 110) -> str:
    """The report for a terminal."""
    out = StringIO()
    console = Console(file=out, width=width, force_jupyter=False)
    for title, (titles, rows) in _sections(found):
        console.print(f'\n{title}')
        grid = Table(*map(escape, titles))
        for row in rows:
            grid.add_row(*(escape('' if cell is None else _brief(cell)) for cell in row))
        console.print(grid)
    for line in left_out(found):
        console.print(escape(f'not measured: {line}'))
    if found.seen:
        console.print(escape(f'warning: {seen_text(found)}'))
    costs = costs_text(found, advice.method)
    console.print(escape('\n'.join(['', *[costs] * bool(costs), '', advice.headline, *(
        f'  {reason}' for reason in advice.reasons)])), soft_wrap=True)
    return out.getvalue()


def _brief(cell: Any) -> str:
    return f'{cell:.3g}' if isinstance(cell, float) and abs(cell) < 1000 else (
        f'{cell:.0f}' if isinstance(cell, float) else str(cell))


def _sections(found: Findings) -> List[Tuple[str, Rows]]:
    images = found.images
    sections = [
        (f'Scores on {images.get("scored", 0)} images of the validation set', score_rows(found)),
        ('By class: score in per cent, and what the networks find', class_rows(found)),
        (f'At the point `{found.point}`, where the student is compared with the teacher',
         point_rows(found)),
        ('Methods: gradient on the shared features beside that of the task, and cost of a step',
         method_rows(found))]
    if found.alone:
        sections[-1] = (f'{sections[-1][0]} of {found.alone["batch"]} images', sections[-1][1])
    return [(title, rows) for title, rows in sections if rows[1]]


def as_page(found: Findings, advice: Recommendation, pictures: Sequence[str] = (),
            command: str = '') -> str:
    """The report as one file of HTML.

    Args:
        found (Findings): The figures.
        advice (Recommendation): The recommendation.
        pictures (Sequence[str]): Rows of :class:`mmkd.reports.pictures.Drawer`. Defaults to ().
        command (str): The command that made it. Defaults to ''.
    """
    warning = paragraph(f'Warning: {seen_text(found)}', 'advice') if found.seen else ''
    reasons = ''.join(paragraph(one) for one in advice.reasons)
    body = [heading('Is it worth it?', 1), paragraph(f'student: {found.student}', 'faint'),
            paragraph(f'teacher: {found.teacher}', 'faint'),
            f'<div class="advice"><p><strong>{html.escape(advice.headline)}</strong></p>'
            f'{reasons}</div>', warning]
    notes = _notes(found)
    for title, (titles, rows) in _sections(found):
        body += [heading(title), html_table(titles, rows)]
        body += [paragraph(one) for one in notes.get(title.split()[0], ())]
        if title.startswith('By class') and pictures:
            body += [heading('Images on which they differ most', 3), *pictures]
        if title.startswith('At the point'):
            body.append(curves(found))
    costs = costs_text(found, advice.method)
    body += [heading('Costs'), paragraph(costs)] if costs else []
    missing = left_out(found)
    if missing:
        body.append(folded(f'Not measured ({len(missing)})', ''.join(map(paragraph, missing))))
    body.append(paragraph(f'Measured in {duration(found.seconds)}, in float32. {command}', 'faint'))
    return page('Is it worth it?', body)


def curves(found: Findings) -> str:
    """Reliability curves on held-out images."""
    lines = []
    for number, side in enumerate(SIDES):
        sides = found.standings.get(side)
        if sides is not None and sides.held_out:
            lines.append(Line(side, [(sure, right) for sure, right, _ in sides.held_out['curve']],
                              number, has_marks=True))
    return '<div class="grid">' + chart(
        'Reliability on held-out images', lines, 'confidence',
        'share that is right; on the dashed diagonal, probabilities are what they say',
        square=True) + '</div>'


def _notes(found: Findings) -> Dict[str, List[str]]:
    shares = {side: hidden_share(found, side) for side in SIDES}
    hidden = ', '.join(f'{share:.0%} for the {side}' for side, share in shares.items()
                       if share is not None)
    return dict(
        By=["'teacher alone' is what the student can learn, 'student alone' what it may lose."],
        At=[f'Share of the cross entropy on held-out images that training images hide: {hidden}. '
            'A teacher with more than a third, and more than the student, has memorised its '
            'training images.'] if hidden else [],
        Methods=['Gradient: norm, divided by that of the losses on labels, at the outputs of the '
                 'compared modules, or for predictions those of the neck; of several terms, the '
                 'largest (docs/auto.md). Cosine: 1 the same direction, 0 '
                 'unrelated, -1 the opposite. MiB: on a CPU, what is kept for '
                 'the backward pass.'])
