"""Which points of two models can be compared?"""
import copy
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

from mmengine.config import Config
from mmengine.registry import DefaultScope

from ..compare.class_report import report
from ..compare.classes import check_mapping
from ..compare.spec import TermSpec
from ..compare.term import Term
from ..core.build import build_model
from ..core.uninitialized import fill_unwritten, marked_memory
from ..losses import LogitLoss
from ..losses.trial import Limits, limits_of
from ..networks import BaseTeacher, FrozenTeacher
from ..networks.frozen import model_config
from ..networks.inherit import Inheritance
from ..points import kinds_of, points_of
from ..training.distillation import Distillation
from ..training.probe import attempt, trials


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
    with DefaultScope.overwrite_default_scope(student.get('default_scope')), marked_memory():
        model = build_model(model_config(student), 'student')
    one = teacher if isinstance(teacher, BaseTeacher) else FrozenTeacher(
        teacher, checkpoint=checkpoint, classes=classes)
    one.prepare(model)
    assert one.model is not None
    fill_unwritten(model)
    entry = dict(type='mmkd.MSELoss', on=next(iter(points_of(model, 'student'))))
    distillation = Distillation(model, one, [entry], config=student)
    distillation.probe.tell_classes()
    check_mapping(distillation.probe.classes()[0], one.classes, one.mapping)
    return Pair(distillation)
