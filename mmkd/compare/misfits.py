"""Messages for two points that cannot be compared: the cause, and the remedy."""
import re
from difflib import SequenceMatcher
from typing import List, Optional, Sequence, Tuple

from ..core.names import shown_names
from ..points import Point

Shapes = Sequence[Tuple[int, ...]]


def columns_differ(student: Point, teacher: Point, student_classes: Optional[Sequence[str]],
                   teacher_classes: Optional[Sequence[str]]) -> str:
    """Message for two heads with different numbers of columns.

    Args:
        student (Point): Class logits, objectness, or masks of the student.
        teacher (Point): The same of the teacher.
        student_classes (Sequence[str], optional): Names of the student's classes.
        teacher_classes (Sequence[str], optional): Names of the teacher's classes.
    """
    shown = (f'`{student.name}` of the student has {_columns(student)}, `{teacher.name}` of the '
             f'teacher has {_columns(teacher)}')
    if bool(student.num_named) != bool(teacher.num_named):
        return (f"{shown}; only columns with the same meaning can be compared: write on='cls' for "
                "the classes of both, or compare 'neck' or 'backbone'")
    if student.num_named == teacher.num_named:
        return (f'{shown}; both heads must have a column for the background, or neither: use a '
                "teacher with the same type of classification loss, or compare 'neck' or "
                "'backbone'")
    return (f"{shown}; the student's classes are {shown_names(student_classes)}, the teacher's "
            f'{shown_names(teacher_classes)}; use a teacher with the same classes')


def codings_differ(student: Point, teacher: Point, mine: str, theirs: str) -> str:
    """Message for boxes in different codings.

    Args:
        student (Point): The student's point.
        teacher (Point): The teacher's point.
        mine (str): Coding of the student's boxes, see :attr:`Point.coding`; '' for no boxes.
        theirs (str): Coding of the teacher's boxes.
    """
    shown = differing_settings(mine, theirs) if mine and theirs else (
        (mine and 'boxes') or 'no boxes', (theirs and 'boxes') or 'no boxes')
    remedy = "compare 'cls' or 'neck', or use a teacher with the student's coding"
    if 'one for each class' in shown[0] and 'one for all classes' in shown[1]:
        remedy = f"write `reg_class_agnostic=True` in the student's box head, {remedy}"
    return (f'`{student.name}` of the student predicts {shown[0]}, `{teacher.name}` of the teacher '
            f'{shown[1]}; only boxes of the same coding can be compared; {remedy}')


def shapes_differ(student: Point, teacher: Point, mine: Shapes, theirs: Shapes) -> str:
    """Message for paired levels with different shapes.

    Args:
        student (Point): The student's point.
        teacher (Point): The teacher's point.
        mine (Sequence[tuple[int]]): Shapes of the student's levels.
        theirs (Sequence[tuple[int]]): Shapes of the teacher's levels, the same number.
    """
    level, one, other = next((number, a, b) for number, (a, b) in enumerate(zip(mine, theirs))
                             if a != b)
    where = f' at level {level}' if len(mine) > 1 else ''
    shown = (f'`{student.name}` of the student is {_shape(one)}{where}, `{teacher.name}` of the '
             f'teacher is {_shape(other)}')
    size, given = (''.join(f'x{n}' for n in shape[2:])[1:] for shape in (one, other))
    if len(one) != len(other):
        return (f'{shown}; both must have the same number of dimensions: choose another point, '
                "such as 'neck' or 'backbone'")
    if one[1:2] != other[1:2] and student.is_prediction and student.num_classes:
        counts = [shape[1] // student.num_classes for shape in (one, other)]
        return (f'{shown}: {counts[0]} and {counts[1]} anchors at a position; use a teacher with '
                "the same number of anchors, or compare 'neck' or 'backbone'")
    if one[1:2] != other[1:2] and student.is_prediction:
        return (f'{shown}: {one[1]} and {other[1]} numbers at a position; use a teacher with the '
                "same number of anchors, or compare 'neck' or 'backbone'")
    if one[1:2] != other[1:2]:
        return (f"{shown}: {one[1]} and {other[1]} channels; write `connector='auto'`, or choose "
                'another point')
    if one[0] != other[0]:
        return (f'{shown}: {one[0]} and {other[0]} predictions; both sides must predict at the '
                "same positions: compare 'neck' or 'backbone'")
    if student.asked_at:
        return (f'{shown}: each RoI has a map of {size} and of {given}; use a teacher whose RoI '
                "extractor and head return maps of the student's size, or compare 'cls' or 'neck'")
    return (f'{shown}: maps of {size} and of {given}; use a teacher whose levels have the '
            "student's strides, or compare 'neck' or 'backbone', whose maps are interpolated")


def differing_settings(one: str, other: str) -> Tuple[str, str]:
    """Differences of two descriptions such as ``Coder(a=1, b=[2, 3]) from Priors(c=4)``.

    If the kinds differ (``Coder`` and ``OtherCoder``), their settings are left out.

    Returns:
        tuple[str, str]: For instance 'a=1' and 'a=5'; 'nothing of it' for a side without a setting
        that the other has.
    """
    words = _words(one), _words(other)
    found: Tuple[List[str], List[str]] = [], []
    for tag, i, j, k, m in SequenceMatcher(None, words[0], words[1], autojunk=False).get_opcodes():
        if tag != 'equal':
            found[0].extend(words[0][i:j])
            found[1].extend(words[1][k:m])
    if any('=' not in word for side in found for word in side):
        found = tuple([word for word in side if '=' not in word]  # type: ignore[assignment]
                      for side in found)
    mine, theirs = (', '.join(side) or 'nothing of it' for side in found)
    return mine, theirs


def _words(text: str) -> List[str]:
    """Split 'A(x=[1, 2], y=3) from B(z=4)' into ['A', 'x=[1, 2]', 'y=3', 'B', 'z=4']."""
    words, depth, word = [], 0, ''
    for sign in text:
        depth += (sign in '[{') - (sign in ']}')
        if depth == 0 and sign in '(),':
            words.append(word)
            word = ''
        else:
            word += sign
    return [found for found in (re.sub(r'^(from|by) ', '', one.strip()) for one in [*words, word])
            if found]


def _columns(point: Point) -> str:
    rest = (point.num_classes or 0) - point.num_named
    if not point.num_named:
        return f'{rest} column{"s" * (rest != 1)} that represent{"s" * (rest == 1)} no class of ' \
               'the data (objects against background, or all classes in one)'
    named = f'columns for {point.num_named} class{"es" * (point.num_named != 1)}'
    return f'{named} and one for the background' if rest else named


def _shape(shape: Tuple[int, ...]) -> str:
    return 'x'.join(map(str, shape))
