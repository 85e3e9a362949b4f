"""Which point of the teacher belongs to which point of the student, column by column?"""
from dataclasses import dataclass, replace
from itertools import product
from typing import Dict, Iterable, List, Optional, Sequence, Set, Tuple

import torch
from torch import Tensor, nn

from ..files.classes import ClassMapping
from ..losses import DistillLoss, LogitLoss
from ..points import Answers, Point, find_point, points_of
from ..points.queries import Queries, class_map
from ..points.recorder import Records
from .anchors import is_per_anchor
from .classes import check_sums, match_classes, partners_of
from .columns import Columns, Kind, check_names, columns_between, is_binary_pair, reduced
from .misfits import codings_differ, columns_differ
from .pair_queries import in_order, pair_queries
from .regions import Region
from .spec import TermSpec
from .stages import choose_stages, places

Names = Optional[Sequence[str]]
"""Names of classes, in the order of the columns; None if unknown."""

THROUGH = 'through '
"""Prefix of a key of the teacher's answers: predictions of the teacher from a value of the
student."""


@dataclass(frozen=True)
class Alignment:
    """Two points, and how the teacher's columns are mapped to the student's."""
    student: Point
    teacher: Point
    columns: Optional[Columns] = None
    """Replacement of the teacher's columns; None if they are not changed."""
    classes: Tuple[Names, Names] = (None, None)
    """Names of the student's and of the teacher's classes."""
    is_per_anchor: bool = False
    """Whether each anchor of a position is compared separately."""
    notes: Tuple[str, ...] = ()
    """Notes on the columns, for the log."""
    is_continued: bool = False
    """Whether the student's side is the teacher's prediction from a value of the student."""
    is_shared: bool = False
    """Whether both sides predict for the same queries, which are paired by number."""
    mapping: Optional[ClassMapping] = None
    """Mapping of the teacher's classes that the config states."""
    unknown_names: Tuple[str, ...] = ()
    """Sides, 'student' and 'teacher', with classes that are matched by order."""

    @property
    def names_classes(self) -> bool:
        """Whether the compared levels, or the logits that pair queries, have columns of classes."""
        one, other = self.student, self.teacher
        return bool(one.queries and other.queries) or bool(one.num_named and other.num_named)

    @property
    def asked(self) -> List[Tuple[str, Point]]:
        """Points of the teacher to observe, with the student's module that supplies the places.

        One entry per such module: its path, '' if the teacher needs no places, and the point.
        """
        one, other = self.student, self.teacher
        if not one.asked_at:
            return [('', each) for each in other.choices or [other]]
        if other.stages:  # stage by stage
            return list(zip(one.asked_at, other.stages))
        return [(at, other) for at in one.asked_at]

    def is_answered(self, told: Dict[str, Answers]) -> bool:
        """Whether the teacher has an answer: a cascade student may stop before its stage."""
        return any(at in told for at, _ in self.asked)

    def read(self, seen: Records, told: Dict[str, Answers],
             is_paired: bool = True) -> Tuple[List[Tensor], List[Tensor]]:
        """The levels of both sides, the teacher's columns in the student's order.

        Args:
            seen (dict): Records of the student.
            told (dict): Answers of the teacher, by the paths of :attr:`asked`.
            is_paired (bool): Whether sets of queries are paired. Defaults to True.

        Raises:
            ValueError: If a module of a point did not run, or its output needs no gradient.
        """
        one, other = self.student, self.teacher
        teacher = [level for at, point in self.asked if at in told
                   for level in told[at][point].levels]
        student = [compared(self, level) for level in one.levels(seen)] if (
            not self.is_continued) else [
                self._reorder(level) for at, point in self.asked if at in told
                for level in told[THROUGH + at][point].levels]
        for side, levels, point in (('student', student, one), ('teacher', teacher, other)):
            if not levels:
                raise ValueError(
                    f'`{point.name}` of the {side} was not computed: its module '
                    f'`{", ".join(point.paths)}` does not run before the points of this family; '
                    'choose one of them, or a module before the heads')
        has_gradient = any(level.requires_grad for level in student)
        if torch.is_grad_enabled() and not has_gradient and self.is_continued:
            raise ValueError(f'`through`: the prediction of the teacher at `{other.name}` does not '
                             'depend on the module in `through`, so the student has no gradient '
                             'from it; write a module that this point depends on')
        if torch.is_grad_enabled() and not has_gradient:
            raise ValueError(
                f'`{one.name}` of the student has no gradient: it is frozen, or inside a '
                'checkpointed block (`with_cp=True`), which torch computes twice; choose a point '
                'outside of it')
        if other.masks is not None and one.is_map:
            # An average over several teachers has no queries; its map is interpolated later.
            teacher = [class_map(masks, level.shape[2:]) for level, masks in zip(
                student, told[''][other].queries)] or teacher
        teacher = [self._reorder(level) for level in teacher]
        if one.queries is not None and other.queries is not None and (
                is_paired and not self.is_shared):
            orders = [pair_queries(*self._reorder_queries(mine, theirs))
                      for mine, theirs in zip(
                          one.queries(*(seen[path] for path in one.paths)),
                          told[''][other].queries)]
            student = [in_order(level, [mine for mine, _ in order], one.query_dim)
                       for level, order in zip(student, orders)]
            teacher = [in_order(level, [theirs for _, theirs in order], other.query_dim)
                       for level, order in zip(teacher, orders)]
        return student, teacher

    def split(self, levels: List[Tensor]) -> List[Tensor]:
        """Levels in the shape for the loss: (N·anchors, classes, H, W) if each anchor is compared
        separately."""
        if not self.is_per_anchor:
            return levels
        return [level.unflatten(1, (-1, self.width)).flatten(0, 1) for level in levels]

    def anchors(self, channels: int) -> int:
        """Number of separately compared anchors per position, in a level with so many channels."""
        return channels // (self.width or 1) if self.is_per_anchor else 1

    @property
    def width(self) -> int:
        """Number of compared columns per prediction; 0 if it is not known."""
        kept = self.columns and self.columns.kept
        return self.student.columns if kept is None else len(kept)

    def _reorder(self, level: Tensor) -> Tensor:
        if self.columns is None:
            return level
        assert self.teacher.num_classes is not None
        return self.columns.of(level, self.teacher.num_classes)

    def _reorder_queries(self, student: Queries, teacher: Queries) -> Tuple[Queries, Queries]:
        """The queries of both sides, with the compared columns in the order of the student's."""
        columns = columns_between(Kind.of_queries(student), Kind.of_queries(teacher),
                                  *self.classes, mapping=self.mapping)
        if columns is None:
            return student, teacher
        own = columns.of_student(student.logits, student.logits.shape[1])
        return student._replace(logits=own), teacher._replace(
            logits=columns.of(teacher.logits, teacher.logits.shape[1]),
            use_sigmoid=student.use_sigmoid)


def compared(alignment: Alignment, level: Tensor) -> Tensor:
    """The columns of a level of the student that are compared."""
    columns, own = alignment.columns, alignment.student.num_classes
    return level if columns is None or own is None else columns.of_student(level, own)


def kept_of(alignments: Iterable[Optional[Alignment]]) -> Optional[List[int]]:
    """The student's classes that are compared, by number; None for all."""
    for one in alignments:
        if one is not None and one.columns is not None and one.columns.kept is not None:
            return [number for number in one.columns.kept if number < one.student.num_named]
    return None


def paths_of(point: Point) -> Set[str]:
    """Paths of the modules to record for a point of the student."""
    return {*(path for each in point.choices or [point] for path in each.watched), *point.asked_at}


def align(spec: TermSpec, loss: DistillLoss, student: Point, teacher: nn.Module,
          student_classes: Names, teacher_classes: Names, shares_classes: bool = False,
          stated: Sequence[str] = (), is_activation_given: bool = False,
          region: Optional[Region] = None,
          mapping: Optional[ClassMapping] = None) -> Alignment:
    """Find the point in the teacher and match its columns with the student's.

    Args:
        spec (TermSpec): The entry.
        loss (DistillLoss): Its loss.
        student (Point): From :func:`find_student_point`.
        teacher (nn.Module): The teacher.
        student_classes (Sequence[str], optional): Names of the student's classes, in the order
            of its columns. None if unknown.
        teacher_classes (Sequence[str], optional): Names of the teacher's classes.
        shares_classes (bool): Whether the teacher has the columns of the student, whatever the
            names of its classes. Defaults to False.
        stated (Sequence[str]): Sides, 'student' and 'teacher', with names from ``classes`` of the
            config. Defaults to ().
        is_activation_given (bool): Whether the entry has ``use_sigmoid``, which then overrides the
            activations of both heads. Defaults to False.
        region (Region, optional): Its region. Defaults to None.
        mapping (ClassMapping, optional): See :func:`mmkd.compare.classes.partners_of`. Defaults to
            None.

    Raises:
        ValueError: If the points cannot be compared: their activations, classes, numbers of stages
            or box codings differ, or only one side predicts at given places or for an unordered
            set of queries.
    """
    one, other = student, find_point(teacher, spec.on_teacher, 'teacher')
    if one.is_map and one.num_named and not one.use_sigmoid and other.queries and (
            other.name == 'cls' and 'semantic' in points_of(teacher, 'teacher')):
        other = find_point(teacher, 'semantic', 'teacher')
    if one.name == 'semantic' and other.name != 'semantic':
        raise ValueError(
            f'`semantic` of the student is computed from queries, but `{other.name}` of the '
            'teacher is not, so it has no masks for the queries; use a mask transformer as '
            "teacher, or compare 'neck' or 'backbone'")
    if (bool(one.asked_at), bool(one.queries)) != (bool(other.asked_at), bool(other.queries)):
        raise ValueError(
            f'`{spec.on_student}` of the student predicts for {places(one)}, `{spec.on_teacher}` '
            f"of the teacher for {places(other)}; compare 'neck' or 'backbone', or use a teacher "
            "of the student's model family")
    one, other = choose_stages(spec, one, other)
    codings = [[stage.coding for stage in side.stages] or [side.coding] for side in (one, other)]
    for mine, theirs in product(*codings) if 1 in map(len, codings) else zip(*codings):
        if mine != theirs:
            raise ValueError(codings_differ(one, other, mine, theirs))
    if spec.through is not None:
        find_point(teacher, spec.through.teacher, 'teacher')
    found = Alignment(one, other, classes=(student_classes, teacher_classes), mapping=mapping,
                      is_continued=spec.through is not None,
                      is_shared=spec.queries is not None,
                      is_per_anchor=is_per_anchor(spec, loss, one, is_activation_given, region))
    are_logits = one.num_classes is not None and other.num_classes is not None
    both: Tuple[Tuple[str, Names], ...] = (('teacher', teacher_classes),
                                           ('student', student_classes))
    if one.queries and student_classes and teacher_classes:
        # The cost of a pair includes the class.
        match_classes(student_classes, teacher_classes, mapping)
    elif isinstance(loss, LogitLoss) and not are_logits and (
            student_classes and teacher_classes) and match_classes(
                student_classes, teacher_classes, mapping):
        raise ValueError(
            f"the teacher's classes are in another order, and `{spec.on_teacher}` is not known to "
            "be class logits, so its columns cannot be reordered; compare 'cls'")
    if found.names_classes and not shares_classes:
        unknown = tuple(side for side, names in (
            ('student', student_classes), ('teacher', teacher_classes)) if not names)
        if unknown:
            found = replace(found, unknown_names=unknown, notes=(
                'classes are taken by their order, because names of the '
                f'{" and the ".join(unknown)}\'s are unknown', ))
    if not are_logits:
        return found
    kinds = Kind.of_point(one), Kind.of_point(other)
    whole = kinds
    if mapping is not None and student_classes and teacher_classes and one.num_named and (
            other.num_named and not is_binary_pair(*kinds)):
        for (side, names), kind in zip(both, kinds[::-1]):
            check_names(kind, names, side, side in stated)
        partners = partners_of(student_classes, teacher_classes, mapping)
        check_sums(one.name, partners)
        kinds = reduced(*kinds, partners)[:2]
    # A column for the background has no partner under any activation.
    has_partners = len({kind.columns - kind.named for kind in kinds}) == 1
    if one.use_sigmoid != other.use_sigmoid and not is_binary_pair(*kinds) and not (
            is_activation_given and has_partners):
        raise ValueError(
            f'`{one.name}` of the student is activated by {_activation(one)}, `{other.name}` '
            f'of the teacher by {_activation(other)}; their probabilities cannot be compared' +
            ('; if both use the same activation, write `use_sigmoid=True` or `False` in the '
             'entry' if has_partners and isinstance(loss, LogitLoss) else
             "; compare 'neck' or 'backbone', or use a teacher with the same activation"))
    if one.num_named and other.num_named and not shares_classes:
        for (side, names), kind in zip(both, whole[::-1]):
            check_names(kind, names, side, side in stated)
    columns = columns_between(*whole, student_classes, teacher_classes,
                              as_sigmoid=getattr(loss, 'use_sigmoid', None) is True,
                              mapping=mapping)
    if columns is not None:
        found = replace(found, columns=columns, notes=(*found.notes, columns.note))
    own = one.num_classes if columns is None or columns.kept is None else len(columns.kept)
    if own != (other.num_classes if columns is None else len(columns.rows)):
        raise ValueError(columns_differ(one, other, student_classes, teacher_classes))
    return found


def _activation(point: Point) -> str:
    return 'sigmoid' if point.use_sigmoid else 'softmax'
