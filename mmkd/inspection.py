"""Which points of two models can be compared, and which entries has a method for them?"""
import copy
from io import StringIO
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import nn

from .compare.class_report import report
from .compare.classes import check_mapping
from .compare.levels import shown_strides
from .compare.parts import shown_shapes
from .compare.spec import TermSpec
from .compare.term import Term, notes_of_term
from .core.build import build_model
from .core.rng import preserved_rng
from .losses import METHODS, LogitLoss, Method
from .losses.method import FAMILIES, alternatives, around_of, entries_among, methods_of
from .losses.prepared import with_file
from .losses.trial import Limits, limits_of
from .networks import BaseTeacher, FrozenTeacher
from .networks.frozen import model_config
from .networks.inherit import Inheritance
from .points import kinds_of, points_of
from .training.distillation import Distillation
from .training.probe import attempt, trials


class Finding(NamedTuple):
    """Result for one point."""
    point: str
    term: Optional[Term]
    """The term that compares it; None if it cannot be compared."""
    problem: str
    """Why it cannot be compared; '' if it can."""
    kinds: Tuple[str, ...] = ()
    """Kinds of the student, by which a method selects its entries."""
    is_of_student: bool = True
    """Whether the student has a point of this name; otherwise only the teacher has it."""

    @property
    def verdict(self) -> str:
        """The result in a few words."""
        if self.term is None:
            return 'cannot be compared'
        named = self.term.teacher_point.name
        return ('through a connector' if self.term.connectors else 'as it is') + (
            f", with `{named}` of the teacher" if named != self.point else '')

    def limits(self, entry: Dict[str, Any]) -> Limits:
        """Which parts of the loss of a method's entry have no gradient at this point."""
        assert self.term is not None
        loss = TermSpec.of(entry).build_loss()
        if isinstance(loss, LogitLoss):
            loss.use_sigmoid = self.term.student_point.use_sigmoid
        return limits_of(loss, self.term.compared)


class Pair(List[Finding]):
    """One :class:`Finding` per point of a student and a teacher, those of the student first.

    Args:
        distillation (Distillation): Of the two, with a prepared teacher.
    """

    def __init__(self, distillation: Distillation) -> None:
        self.distillation = distillation
        self.kinds = kinds_of(distillation.student)
        own = points_of(distillation.student, 'student')
        super().__init__(
            Finding(name, found if isinstance(found, Term) else None,
                    '' if isinstance(found, Term) else str(found), self.kinds, name in own)
            for name, found in trials(distillation))

    @property
    def kind(self) -> str:
        """Kind of the student's family."""
        return self.kinds[-1]

    def problem(self, entry: Dict[str, Any]) -> str:
        """Why an entry of ``distill`` cannot be used for the pair; '' if it can."""
        on = entry['on']
        if isinstance(on, str) and '.' not in on and 'queries' not in entry:
            finding = next((one for one in self if one.point == on), None)
            if finding is None:
                return 'neither model has this point'
            if finding.term is None:
                return finding.problem
            limits = finding.limits(entry)
            if limits.is_constant:
                return '; '.join(limits.notes)
        found = attempt(self.distillation, entry)
        return '' if isinstance(found, Term) else str(found)

    @property
    def classes(self) -> str:
        """The mapping of the teacher's classes in lines of text; '' if names are not known."""
        teacher, probe = self.distillation.teacher, self.distillation.probe
        names = probe.classes()[0] or ()
        if not names or not teacher.classes:
            return ''
        return report(names, teacher.classes, teacher.mapping)

    def can_inherit(self, part: str) -> bool:
        """Whether the student can begin with tensors of a part of the teacher, such as 'neck'."""
        teacher = self.distillation.teacher.model
        assert teacher is not None
        try:
            Inheritance.of(part).pass_on(teacher, copy.deepcopy(self.distillation.student))
        except ValueError:
            return False
        return True


def inspect_pair(student: Config, teacher: Union[Config, BaseTeacher],
                 checkpoint: Optional[str] = None, classes: Optional[str] = None) -> Pair:
    """Build both models, run them on a blank image, and try every named point.

    Args:
        student (Config): A complete config, with a plain model.
        teacher (Config | BaseTeacher): Likewise, or a teacher such as :class:`mmkd.ModuleTeacher`.
        checkpoint (str, optional): Path or URL of the teacher's weights, for a config; class names
            in it override those of the data set in the config. Defaults to None: weights are not
            needed.
        classes (str, optional): Path of a mapping of classes, see :class:`mmkd.FrozenTeacher`.
            Defaults to None, classes are matched by name.

    Raises:
        FileNotFoundError: If the checkpoint does not exist.
        ValueError: If a config has no model, the family of a model is unknown, or the checkpoint
            or ``classes`` does not fit.
    """
    with DefaultScope.overwrite_default_scope(student.get('default_scope')):
        model = build_model(model_config(student), 'student')
    one = teacher if isinstance(teacher, BaseTeacher) else FrozenTeacher(
        teacher, checkpoint=checkpoint, classes=classes)
    one.prepare(model)
    assert one.model is not None
    for side in (model, one.model):
        _make_finite(side)
    entry = dict(type='mmkd.MSELoss', on=next(iter(points_of(model, 'student'))))
    distillation = Distillation(model, one, [entry], config=student)
    distillation.probe.tell_classes()
    check_mapping(distillation.probe.classes()[0], one.classes, one.mapping)
    return Pair(distillation)


@torch.no_grad()
def _make_finite(model: nn.Module) -> None:
    """Fill parameters that are not initialized before ``init_weights``, which may hold any value,
    such as the level embedding of Deformable DETR."""
    with preserved_rng():
        for parameter in model.parameters():
            if not parameter.abs().max() < 1e3:  # also for NaN
                parameter.normal_(std=0.02)


def entries_of(method: str, pair: Pair, prepared: Sequence[str] = ()) -> List[Dict[str, Any]]:
    """The entries of ``distill`` of a method, for a pair of models.

    Args:
        method (str): Name of a :class:`mmkd.losses.Method`, or several joined by '+'.
        pair (Pair): From :func:`inspect_pair`.
        prepared (Sequence[str]): Files of first stages, for methods that have one. Defaults to ().

    Raises:
        FileNotFoundError: If a file of ``prepared`` does not exist.
        ValueError: If the method is unknown, or an entry cannot be used for the pair; the message
            has the points that can be compared.
    """
    entries: List[Dict[str, Any]] = []
    methods = methods_of(method)
    for one in methods:
        its = entries_among(one, methods, *pair.kinds)
        if not its:
            raise ValueError(f'`{one.name}` has nothing to compare in this pair: it is for '
                             f'{one.kinds()}, but the student belongs to '
                             f'{FAMILIES.get(pair.kind, "none of these")}{REMEDY}'
                             f'{_others(one, pair)}')
        for entry in its:
            problems: Dict[str, None] = {}
            for given in alternatives(with_file(entry, prepared)):
                problem = pair.problem(given)
                if not problem:
                    if given not in entries:  # MGD has the entry of CWD
                        entries.append(given)
                    break
                problems[f'`{given["on"]}`: {problem}'] = None
            else:
                if entry.get('if_there'):
                    continue
                able = [finding.point for finding in pair if finding.term]
                raise ValueError(
                    f'`{one.name}` has nothing to compare in this pair; {"; ".join(problems)}. '
                    'Points that can be compared: '
                    f'{", ".join(f"`{name}`" for name in able) or "none"}{REMEDY}{HOW_TO_LIST}')
    return entries


REMEDY = '; take '
HOW_TO_LIST = ('a method that fits, as `tools/inspect_pair.py STUDENT TEACHER --methods` lists '
               'them')


def _others(method: Method, pair: Pair) -> str:
    """Which methods a user may take in place of one without entries for the student."""
    name = method.instead.get(pair.kind)
    if name is None:
        return HOW_TO_LIST
    try:
        entries_of(name, pair)
    except ValueError:
        return HOW_TO_LIST
    return f'`{name}`, the method for such heads, or {HOW_TO_LIST}'


def _notes(finding: Finding) -> List[str]:
    """Notes on the methods with entries for a point: parts of their losses without a gradient."""
    entries = {entry['type']: entry for method in METHODS.values()
               for written in method.entries(*finding.kinds) for entry in alternatives(written)
               if entry['on'] == finding.point}
    return [note for entry in entries.values() for note in finding.limits(entry).notes]


def settings_of(method: str, pair: Pair) -> Dict[str, Any]:
    """The settings around the entries of a method, for a pair of models.

    Parts of which the student can inherit nothing are left out of 'model.inherit'.

    Args:
        method (str): Name of a :class:`mmkd.losses.Method`, or several joined by '+'.
        pair (Pair): From :func:`inspect_pair`.

    Raises:
        ValueError: If a name is unknown, or two methods need different values of a setting.
    """
    found = around_of(methods_of(method), *pair.kinds)
    if 'model.inherit' in found:
        parts = [part for part in found.pop('model.inherit').split(',') if pair.can_inherit(part)]
        if parts:
            found['model.inherit'] = ','.join(parts)
    return found


def methods_table(pair: Pair, width: int = 120) -> str:
    """A table with one line per method: what it compares in the pair, or why it does not fit."""
    table = Table('method', 'compares', 'fits', show_lines=True)
    for name in sorted(METHODS):
        try:
            entries = entries_of(name, pair)
        except ValueError as error:
            reason = str(error).removeprefix(f'`{name}` has nothing to compare in this pair')
            reason, remedy, _ = reason.partition(REMEDY)
            reason = reason.split('. Points that can be compared')[0].lstrip(':; ')
            nearest = METHODS[name].instead.get(pair.kind)
            if remedy and nearest:
                reason += f'{remedy}`{nearest}`'
            is_first_stage = f'--prepare {name}' in reason
            table.add_row(name, '', escape(
                f'after its first stage: {reason}' if is_first_stage else f'no: {reason}'))
        else:
            table.add_row(name, escape('\n'.join(
                f'{entry["type"].removeprefix("mmkd.")} on {entry["on"]}' for entry in entries)),
                'yes')
    return _printed(table, width)


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


def _printed(table: Table, width: int) -> str:
    Console(file=(text := StringIO()), width=width, force_jupyter=False).print(table)
    return text.getvalue()
