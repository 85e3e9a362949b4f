"""The points and the methods of a pair, as tables for a terminal."""
from contextlib import suppress
from io import StringIO
from typing import Dict, List, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..compare.levels import shown_strides
from ..compare.parts import shown_shapes
from ..compare.term import notes_of_term
from ..losses import METHODS
from ..losses.method import FAMILIES, alternatives
from ..losses.recommended import recommended
from .entries import REMEDY, entries_of
from .pair import Finding, Pair


def methods_table(pair: Pair, width: int = 120) -> str:
    """A table with one line per method: what it compares in the pair, or why it does not fit; and
    the method to try first. Methods that fit come first; those for students of other kinds share
    the last line."""
    fitting: Dict[str, str] = {}
    refused: Dict[str, str] = {}
    of_others = []
    for name in sorted(METHODS):
        nearest = METHODS[name].instead.get(pair.kind)
        if not METHODS[name].entries(*pair.kinds) and not nearest:
            of_others.append(name)
            continue
        try:
            fitting[name] = '\n'.join(
                f'{entry["type"].removeprefix("mmkd.")} on {entry["on"]}'
                for entry in entries_of(name, pair))
        except ValueError as error:
            reason = str(error).removeprefix(f'`{name}` has nothing to compare in this pair')
            reason, remedy, _ = reason.partition(REMEDY)
            reason = reason.split('. Points that can be compared')[0].lstrip(':; ')
            if remedy and nearest:
                reason += f'{remedy}`{nearest}`'
            is_first_stage = f'--prepare {name}' in reason
            refused[name] = f'{"after its first stage" if is_first_stage else "no"}: {reason}'
    table = Table('method', 'compares', 'fits', show_lines=True)
    for name, compares in fitting.items():
        table.add_row(name, escape(compares), 'yes')
    for name, reason in sorted(refused.items(), key=lambda one: one[1].startswith('no')):
        table.add_row(name, '', escape(reason))
    if of_others:
        table.add_row(', '.join(of_others), '', 'no: for students of other kinds than '
                      f'{FAMILIES.get(pair.kind, "this one")}')
    text = _printed(table, width)
    with suppress(ValueError):  # none of those that are recommended fits
        first = recommended(pair.kind, lambda method: set(method.split('+')) <= set(fitting))
        text += f'Try `{first.method}` first: {first.reason}.\n'
    return text


def table_of(findings: Sequence[Finding], width: int = 120) -> str:
    """A table with one line per point: modules, shapes and strides of both sides, and whether they
    can be compared; with notes on losses of methods without a gradient there. Points that the
    teacher alone has share one line."""
    table = Table('point', 'student', 'teacher', 'can be compared', show_lines=True)
    alone = [one.point for one in findings if one.term is None and not one.is_of_student]
    for finding in (one for one in findings if one.point not in alone):
        term = finding.term
        if term is None:
            table.add_row(finding.point, '', '', f'no: {escape(finding.problem)}')
            continue
        sides = ['\n'.join([', '.join(point.paths), shown_shapes(shapes)] +
                           [f'stride {shown_strides(strides)}'] * bool(strides))
                 for point, shapes, strides in zip(
                     (term.student_point, term.teacher_point), term.fitting.shapes,
                     term.fitting.strides)]
        table.add_row(finding.point, *sides, '; '.join(
            [finding.verdict, *notes_of_term(term), *_notes(finding)]))
    if alone:
        table.add_row('', '', ', '.join(alone), 'no: no points of the student; one of another name '
                      'may be compared by `on=dict(student=…, teacher=…)`')
    return _printed(table, width)


def _notes(finding: Finding) -> List[str]:
    """Notes on the methods with entries for a point: parts of their losses without a gradient."""
    entries = {entry['type']: entry for method in METHODS.values()
               for written in method.entries(*finding.kinds) for entry in alternatives(written)
               if entry['on'] == finding.point}
    return [note for entry in entries.values() for note in finding.limits(entry).notes]


def _printed(table: Table, width: int) -> str:
    Console(file=(text := StringIO()), width=width, force_jupyter=False).print(table)
    return text.getvalue()
