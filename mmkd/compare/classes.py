"""How are the teacher's classes matched with the student's? By name, or as a mapping says."""
import re
from difflib import get_close_matches
from typing import Collection, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

from ..core.names import joined, shown_names
from ..files.classes import ClassMapping, doubled

Taken = List[Union[int, Tuple[int, ...]]]
"""For each class of the student the teacher's column; a tuple of columns where there are several,
or none."""


class Partners(NamedTuple):
    """The teacher's columns of each class of the student."""
    groups: Tuple[Tuple[int, ...], ...]
    """One per class of the student, in the order of its columns; () for a class without teacher."""
    is_mapped: bool = False
    """Whether the config states a mapping."""
    notes: Tuple[str, ...] = ()
    """Notes on the names, for the log."""

    @property
    def kept(self) -> List[int]:
        """The student's classes that have a partner."""
        return [number for number, group in enumerate(self.groups) if group]

    @property
    def taken(self) -> Set[int]:
        """The teacher's columns that stand for a class of the student."""
        return {column for group in self.groups for column in group}


def match_classes(student: Sequence[str], teacher: Sequence[str],
                  mapping: Optional[ClassMapping] = None) -> Optional[Taken]:
    """The teacher's columns of each class of the student, as
    :meth:`mmkd.points.ModelFamily.relabel` takes them.

    Args:
        student (Sequence[str]): The student's classes, in the order of its columns.
        teacher (Sequence[str]): The teacher's classes, in the order of its columns.
        mapping (ClassMapping, optional): See :func:`partners_of`.

    Returns:
        list[int | tuple[int]] | None: Per class of the student, an index into the teacher's
        classes, or a tuple of several or none; None if both lists are equal.

    Raises:
        ValueError: See :func:`partners_of`.

    Example:
        >>> match_classes(['a', 'b'], ['b', 'c', 'a'])
        [2, 0]
    """
    partners = partners_of(student, teacher, mapping)
    if partners.groups == tuple((number, ) for number in range(len(teacher))):
        return None
    return [group[0] if len(group) == 1 else group for group in partners.groups]


def partners_of(student: Sequence[str], teacher: Sequence[str],
                mapping: Optional[ClassMapping] = None) -> Partners:
    """Find the teacher's classes of each class of the student.

    A class that the mapping does not name is matched by its own name. Names that differ only in
    case, spaces, underscores and hyphens match, with a note, unless another name matches exactly.

    Args:
        student (Sequence[str]): The student's classes, in the order of its columns.
        teacher (Sequence[str]): The teacher's classes, in the order of its columns.
        mapping (ClassMapping, optional): The teacher's classes of some of the student's. Defaults
            to None: all are matched by name, and each needs a partner.

    Raises:
        ValueError: If a class has no partner, and the mapping does not say None for it; if the
            mapping names a class that does not exist, one class of the teacher for two of the
            student's, or none at all; or if a list contains a name twice.

    Example:
        >>> mapping = ClassMapping((('vehicle', ('car', 'bus')), ('rider', ())))
        >>> partners_of(['rider', 'vehicle'], ['bus', 'dog', 'car'], mapping).groups
        ((), (2, 0))
    """
    if mapping is None and list(student) == list(teacher):
        # ImageNet has two cranes, and two maillots.
        return Partners(tuple((number, ) for number in range(len(student))), False, ())
    for side, names in (('student', student), ('teacher', teacher)):
        twice = doubled(names)
        if twice:
            raise ValueError(f'the {side} has several classes of the same name, {joined(twice)}: '
                             f'{shown_names(names)}; give each class a unique name')
    own, other = _Names(student), _Names(teacher)
    notes: List[str] = []
    groups: Dict[int, Tuple[int, ...]] = {}
    if mapping is not None:
        _check_names(mapping, own, other)
    for name, theirs in mapping.entries if mapping else ():
        number = own.named(name, notes)
        columns = [other.named(one, notes) for one in theirs]
        assert number is not None
        groups[number] = tuple(column for column in columns if column is not None)
    free = [number for number in range(len(student)) if number not in groups]
    exact = {number: other.number_of[student[number]] for number in free
             if student[number] in other.number_of}
    spelt = {number: other.named(student[number], [], exact.values())
             for number in free if number not in exact}
    missing = [student[number] for number, column in spelt.items() if column is None]
    if missing:
        raise ValueError(_missing(missing, student, teacher, mapping))
    for number, column in {**exact, **spelt}.items():
        assert column is not None
        groups[number] = (column, )
        if number in spelt:
            notes.append(_spelling(student[number], teacher[column]))
    owner: Dict[int, int] = {}
    for number in sorted(groups):
        for column in groups[number]:
            first = owner.setdefault(column, number)
            if first != number:
                raise ValueError(
                    f'the class {teacher[column]!r} of the teacher would teach both '
                    f'{student[first]!r} and {student[number]!r} of the student; map it to one of '
                    'them, and write None for the other in `classes`' +
                    (f' (`{mapping.file}`)' if mapping and mapping.file else ''))
    if not owner:
        assert mapping is not None
        raise ValueError(f'{mapping.name} maps every class of the student to None, so '
                         "there is nothing to compare; map at least one class, or compare 'neck' "
                         "or 'backbone'")
    return Partners(tuple(groups[number] for number in range(len(student))), mapping is not None,
                    tuple(dict.fromkeys(notes)))


def check_mapping(student: Optional[Sequence[str]], teacher: Optional[Sequence[str]],
                  mapping: Optional[ClassMapping], source: str = 'teacher') -> None:
    """Check that a mapping names classes that exist.

    Args:
        student (Sequence[str], optional): The student's classes; None if unknown.
        teacher (Sequence[str], optional): The teacher's classes; None if unknown.
        mapping (ClassMapping, optional): The mapping; None if there is none.
        source (str): Name of the teacher, for messages. Defaults to 'teacher'.

    Raises:
        ValueError: If the names of a side are not known, or see :func:`partners_of`.
    """
    if mapping is None:
        return
    for side, names, remedy in (
            ('the student', student, 'write classes=[...] in the mmkd.Distiller'),
            (f'`{source}`', teacher, 'give it a checkpoint or a config that has them')):
        if not names:
            shown = f'`classes` of `{source}`' + (f' in `{mapping.file}`' if mapping.file else '')
            raise ValueError(f'{shown} is a mapping of class names, but those of {side} are not '
                             f'known; {remedy}')
    assert student is not None
    assert teacher is not None
    partners_of(student, teacher, mapping)


def check_sums(point: str, partners: Partners) -> None:
    """Check that the classes of a mapping can be added up at a point.

    Args:
        point (str): Name of the point.
        partners (Partners): From :func:`partners_of`.

    Raises:
        ValueError: If several classes are added up at a point of boxes or masks.
    """
    if any(len(group) > 1 for group in partners.groups) and (
            point.split('.')[0] in ('reg', 'boxes', 'mask')):
        raise ValueError(
            f'`classes` of the teacher adds up several of its classes, but `{point}` has boxes or '
            "masks for each class, which cannot be added up; compare 'cls', or map each class of "
            'the student to one class of the teacher')


class _Names:
    """Class names of one side, found exactly or in another spelling."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.number_of = {name: number for number, name in enumerate(names)}
        self._spelt: Dict[str, List[int]] = {}
        for number, name in enumerate(names):
            self._spelt.setdefault(_letters(name), []).append(number)

    def named(self, name: str, notes: List[str], but: Collection[int] = ()) -> Optional[int]:
        """Number of a class, None if there is none, or several in other spellings."""
        if name in self.number_of:
            return self.number_of[name]
        found = [number for number in self._spelt.get(_letters(name), ()) if number not in but]
        if len(found) != 1:
            return None
        notes.append(_spelling(name, self.names[found[0]]))
        return found[0]


def _letters(name: str) -> str:
    return re.sub(r'[\s_-]+', '', name).casefold()


def _spelling(one: str, other: str) -> str:
    return f'{one!r} is matched with {other!r}, which differs in spelling only'


def _check_names(mapping: ClassMapping, student: _Names, teacher: _Names) -> None:
    wrong: List[str] = []
    for side, names, named in (
            ('the student', student, [name for name, _ in mapping.entries]),
            ('the teacher', teacher, [one for _, theirs in mapping.entries for one in theirs])):
        unknown = [f'{name!r}{_closest(name, names.names)}' for name in dict.fromkeys(named)
                   if names.named(name, []) is None]
        if unknown:
            wrong.append(f'names {joined(unknown)}, but {side} has no such class; its classes are '
                         f'{shown_names(names.names)}')
    if wrong:
        raise ValueError(f'{mapping.name} {"; it also ".join(wrong)}; correct the names')


def _closest(name: str, known: Sequence[str]) -> str:
    found = get_close_matches(name, known, 1, 0.6) or get_close_matches(
        name.casefold(), {one.casefold(): one for one in known}, 1, 0.6)
    spelt = next((one for one in known if found and one.casefold() == found[0].casefold()), None)
    return '' if spelt is None else f' (closest: {spelt!r})'


def _missing(missing: Sequence[str], student: Sequence[str], teacher: Sequence[str],
             mapping: Optional[ClassMapping]) -> str:
    """Message for classes without a partner, with the mapping that could be written."""
    shown = ', '.join(f'{name!r}: {theirs!r}' for name, theirs in suggested(
        missing, [one for one in teacher if one not in student]).items())
    shown = f'{{{shown}{", ..." if len(missing) > SUGGESTED else ""}}}'
    has = f'the student has {shown_names(student)}, the teacher {shown_names(teacher)}'
    head = (f"the teacher lacks {len(missing)} of the student's classes: {joined(missing)}")
    if mapping is not None:
        return (f'{head}, and {mapping.name} does not list them; {has}; add them, with '
                f'None for a class without a teacher class, such as {shown}')
    return (f"{head}; {has}; use a teacher trained on these classes, compare 'neck' or 'backbone', "
            "or map the student's classes to the teacher's, with None for no class: "
            f'`teacher=dict(classes={shown})`')


SUGGESTED = 3
"""Number of entries of a mapping that a message shows."""


def suggested(missing: Sequence[str], teacher: Sequence[str]) -> Dict[str, Optional[str]]:
    """A mapping to begin with: the closest name of the teacher, None where none is close.

    If none is close for any class, the first one gets a name of the teacher as an example.

    Args:
        missing (Sequence[str]): Classes of the student without a partner.
        teacher (Sequence[str]): Classes of the teacher that have no partner.
    """
    found: Dict[str, Optional[str]] = {}
    for name in missing[:SUGGESTED]:
        close = get_close_matches(name, [one for one in teacher if one not in found.values()], 1)
        found[name] = close[0] if close else None
    if teacher and not any(found.values()):
        found[missing[0]] = teacher[0]
    return found
