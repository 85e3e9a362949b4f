"""Which class of the teacher teaches which class of the student, in words?"""
from typing import List, Optional, Sequence

from ..core.names import joined
from ..files.classes import ClassMapping
from .classes import partners_of

LINES = 40
"""Number of classes that are listed one by one."""


def report(student: Sequence[str], teacher: Sequence[str],
           mapping: Optional[ClassMapping] = None) -> str:
    """Describe how classes are matched, or why they are not.

    Args:
        student (Sequence[str]): The student's classes, in the order of its columns.
        teacher (Sequence[str]): The teacher's classes, in the order of its columns.
        mapping (ClassMapping, optional): See :func:`mmkd.compare.classes.partners_of`.

    Returns:
        str: Lines of text: the teacher's classes of each class of the student, the student's
        classes without teacher, and classes of the teacher that are not used.

    Example:
        >>> print(report(['car', 'rider'], ['bus', 'car'], ClassMapping((('rider', ()), ))))
        classes, the student's and the teacher's:
          car    car
          rider  -
        without teacher: rider
        classes of the teacher that are not used: bus
    """
    try:
        partners = partners_of(student, teacher, mapping)
    except ValueError as error:
        return f'classes are not matched: {error}'
    theirs = [' + '.join(teacher[column] for column in group) or '-' for group in partners.groups]
    pairs = list(zip(student, theirs))
    if len(pairs) > LINES:  # those that need a look
        pairs = [(one, other) for one, other in pairs if one != other]
    lines: List[str] = ["classes, the student's and the teacher's:"] * bool(pairs)
    width = max((len(one) for one, _ in pairs[:LINES]), default=0)
    lines += [f'  {one:<{width}}  {other}' for one, other in pairs[:LINES]]
    if len(pairs) < len(student) or len(pairs) > LINES:
        lines.append(f'  and {len(student) - min(len(pairs), LINES)} more' + (
            ' of the same name' if len(pairs) <= LINES else ''))
    alone = [name for name, group in zip(student, partners.groups) if not group]
    unused = [name for column, name in enumerate(teacher) if column not in partners.taken]
    lines += [f'without teacher: {joined(alone)}'] * bool(alone)
    lines += [f'classes of the teacher that are not used: {joined(unused)}'] * bool(unused)
    return '\n'.join([*lines, *partners.notes])
