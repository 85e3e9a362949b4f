"""How are the teacher's class columns mapped to the student's?"""
from functools import lru_cache
from typing import List, Optional, Sequence, Tuple

from ..core.names import shown_names
from ..files.classes import ClassMapping
from .classes import Partners, match_classes, partners_of
from .kind import Kind, check_names, is_binary_pair
from .merging import Groups
from .replacement import Columns, Terms, of_binary

__all__ = ['Columns', 'Kind', 'check_names', 'columns_between', 'is_binary_pair', 'reduced']


def columns_between(student: Kind, teacher: Kind, student_classes: Optional[Sequence[str]],
                    teacher_classes: Optional[Sequence[str]], as_sigmoid: bool = False,
                    mapping: Optional[ClassMapping] = None) -> Optional[Columns]:
    """Find the replacement of the teacher's columns that has the meaning of the student's.

    Args:
        student (Kind): The student's columns.
        teacher (Kind): The teacher's.
        student_classes (Sequence[str], optional): Names of the student's classes, in the order of
            its columns. None if unknown; columns are then matched by order.
        teacher_classes (Sequence[str], optional): Names of the teacher's classes.
        as_sigmoid (bool): Whether the entry of ``distill`` has ``use_sigmoid=True``, which applies
            to two softmax columns, too. Defaults to False.
        mapping (ClassMapping, optional): See :func:`mmkd.compare.classes.partners_of`.

    Returns:
        Columns | None: None if the teacher's columns are not changed.

    Raises:
        ValueError: If the teacher lacks a class of the student, or a mapping has no meaning for
            the single logit of a head.
    """
    names = [None if one is None else tuple(one) for one in (student_classes, teacher_classes)]
    return _columns_between(student, teacher, *names, as_sigmoid, mapping)


@lru_cache(maxsize=64)  # queries ask in every step
def _columns_between(student: Kind, teacher: Kind, student_classes: Optional[Tuple[str, ...]],
                     teacher_classes: Optional[Tuple[str, ...]], as_sigmoid: bool,
                     mapping: Optional[ClassMapping]) -> Optional[Columns]:
    if student.is_binary and teacher.is_binary and (student.is_one_logit or teacher.is_one_logit):
        agrees = _agrees(student, teacher, student_classes, teacher_classes, mapping)
        return of_binary(student, teacher, agrees, as_sigmoid)
    if not (student.named and teacher.named and student_classes and teacher_classes):
        return None
    partners = partners_of(student_classes, teacher_classes, mapping)
    if partners.is_mapped:
        return _mapped(student, teacher, partners, as_sigmoid)
    notes = '; '.join(partners.notes)
    order = [column for column, in partners.groups]
    if order == list(range(len(teacher_classes))):
        return Columns(tuple(((column, 1.), ) for column in range(teacher.columns)),
                       notes) if notes else None
    taken = [*order, *range(teacher.named, teacher.columns)]
    return Columns(tuple(((column, 1.), ) for column in taken), '; '.join(filter(None, (
        "the teacher's columns are reordered to the student's order by class name", notes))))


def reduced(student: Kind, teacher: Kind, partners: Partners) -> Tuple[Kind, Kind, Groups]:
    """What a mapping leaves of both sides.

    Args:
        student (Kind): The student's columns.
        teacher (Kind): The teacher's.
        partners (Partners): The teacher's columns of each class of the student.

    Returns:
        tuple[Kind, Kind, Groups]: The student's columns that are compared, the teacher's columns
        after those of each class are added up, and the teacher's columns in each of these.

    Raises:
        ValueError: If a class is left out, or several are added up, at a head with one logit for
            two named classes.
    """
    kept = partners.kept
    own = student
    if student.columns >= student.named:
        own = Kind(student.columns - len(partners.groups) + len(kept), len(kept),
                   student.use_sigmoid)
    elif len(kept) < len(partners.groups):
        raise ValueError(f'{ONE_LOGIT} of the student, so `classes` of the teacher must map both; '
                         'write a class of the teacher for each')
    groups = [partners.groups[number] for number in kept]
    if teacher.columns < teacher.named:  # one logit
        if sorted(groups) != [(0, ), (1, )]:
            raise ValueError(f'{ONE_LOGIT} of the teacher, so `classes` of the teacher must map '
                             'each of them to a class of the student; write both')
        return own, teacher, tuple(groups)
    rest = [column for column in range(teacher.named) if column not in partners.taken]
    unnamed = list(range(teacher.named, teacher.columns))
    if teacher.use_sigmoid:
        groups += [(column, ) for column in unnamed]
    elif unnamed or (student.is_one_logit and student.named == 1 and rest):
        groups.append((*unnamed, *rest))  # objects of no class of the student are background
    return own, Kind(len(groups), len(kept), teacher.use_sigmoid), tuple(groups)


ONE_LOGIT = 'one logit represents both classes'


def _mapped(student: Kind, teacher: Kind, partners: Partners, as_sigmoid: bool) -> Columns:
    """The columns for a mapping: probabilities are added up, then two columns may become one."""
    own, other, groups = reduced(student, teacher, partners)
    kept = partners.kept if own is student else [*partners.kept, *range(
        student.named, student.columns)]
    notes = [*partners.notes]
    several = [number for number in partners.kept if len(partners.groups[number]) > 1]
    if several:
        notes.append('probabilities of several classes of the teacher are added up for '
                     f"{len(several)} of the student's")
    left = len(partners.groups) - len(partners.kept)
    if left:
        notes.append(f"{left} of the student's classes are left out, because no class of the "
                     'teacher is mapped to them')
    rows: Tuple[Terms, ...]
    if other is teacher and not is_binary_pair(own, other):
        raise ValueError(f'{ONE_LOGIT} of the teacher, but the student has {own.columns} columns '
                         "to compare; compare 'neck' or 'backbone'")
    if is_binary_pair(own, other):
        agrees = other is not teacher or groups[own.yes] == (teacher.yes, )
        binary = of_binary(own, other, agrees, as_sigmoid)
        assert binary is not None
        rows = binary.rows
        notes.append(binary.note)
    else:
        rows = tuple(((number, 1.), ) for number in range(len(groups)))
    if other is teacher:  # one logit, which no class is added to
        groups = ()
    elif all(len(group) == 1 for group in groups):
        rows = tuple(tuple((groups[number][0], factor) for number, factor in row) for row in rows)
        groups = ()
    is_all = len(kept) == student.columns or own is student
    return Columns(rows, '; '.join(["the teacher's columns follow the mapping of `classes`",
                                    *notes]), groups, teacher.use_sigmoid,
                   None if is_all else tuple(kept))


def _agrees(student: Kind, teacher: Kind, student_classes: Optional[Sequence[str]],
            teacher_classes: Optional[Sequence[str]], mapping: Optional[ClassMapping]) -> bool:
    """Whether the positive classes of both sides are the same; else they are opposite."""
    if not (student.named and teacher.named and student_classes and teacher_classes):
        return True
    if mapping is not None:
        teacher_classes = _renamed(student_classes, teacher_classes, mapping)
    if student.named > teacher.named:  # the teacher's negative class has no name
        found = match_classes(teacher_classes, student_classes) or range(2)
        return found[teacher.yes] == student.yes
    found = match_classes(student_classes, teacher_classes) or range(2)
    return found[student.yes] == teacher.yes


def _renamed(student: Sequence[str], teacher: Sequence[str],
             mapping: ClassMapping) -> List[str]:
    """The teacher's two classes by the student's names."""
    name_of = {}
    for name, theirs in mapping.entries:
        for side, one, known in [('student', name, student), *(
                ('teacher', one, teacher) for one in theirs)]:
            if one not in known:
                raise ValueError(f'`classes` of the teacher contains {one!r}, but the {side} has '
                                 f'no such class; its classes are {shown_names(known)}; correct '
                                 'the name')
        if len(theirs) != 1:
            raise ValueError(f'{ONE_LOGIT} here, so `classes` of the teacher must map {name!r} to '
                             f'one class of the teacher, but maps it to {list(theirs) or None}; '
                             'write one class')
        name_of[theirs[0]] = name
    return [name_of.get(one, one) for one in teacher]
