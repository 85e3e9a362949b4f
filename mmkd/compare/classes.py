"""How are the teacher's classes matched with the student's? By name."""
from typing import List, Optional, Sequence

from ..core.names import joined, shown_names
from ..files.classes import doubled


def match_classes(student: Sequence[str], teacher: Sequence[str]) -> Optional[List[int]]:
    """The teacher's column of each class of the student.

    Args:
        student (Sequence[str]): The student's classes, in the order of its columns.
        teacher (Sequence[str]): The teacher's classes, in the order of its columns.

    Returns:
        list[int] | None: Indices into the teacher's classes; None if both lists are equal.

    Raises:
        ValueError: If the teacher lacks a class of the student, or one of two different lists
            contains a name twice; the message has the name and the lists.
    """
    if list(student) == list(teacher):  # ImageNet has two cranes, and two maillots
        return None
    for side, names in (('student', student), ('teacher', teacher)):
        twice = doubled(names)
        if twice:
            raise ValueError(f'the {side} has classes of one name, {joined(twice)}: '
                             f'{shown_names(names)}; give each a name of its own')
    known = {name: column for column, name in enumerate(teacher)}
    missing = [name for name in student if name not in known]
    if missing:
        raise ValueError(
            f'the teacher does not know {len(missing)} of the student\'s classes: '
            f'{joined(missing)}; the student has {shown_names(student)}, the teacher '
            f'{shown_names(teacher)}; give a teacher trained on these classes, or compare '
            "'neck' or 'backbone'; where a class only has another name there, write the student's "
            'names for the teacher\'s columns, in their order: `teacher=dict(classes=[...])`')
    return [known[name] for name in student]
