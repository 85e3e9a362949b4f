"""How are the teacher's class columns mapped to the student's?"""
from functools import lru_cache
from typing import List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from ..core.names import shown_names
from ..points import Point
from ..points.queries import Queries
from .classes import match_classes

Terms = Tuple[Tuple[int, float], ...]
"""(column, factor) pairs of the teacher; the weighted sum is a column of the student."""


class Kind(NamedTuple):
    """Meaning of the columns of a prediction."""
    columns: int
    """Number of columns."""
    named: int
    """Number of columns for classes of the data set. One column more is that of the background.
    0 for objectness, which has no classes."""
    use_sigmoid: bool
    """Whether each column is an independent probability (sigmoid)."""

    @classmethod
    def of_point(cls, point: Point) -> 'Kind':
        """The kind of a point with class logits."""
        assert point.num_classes is not None
        return cls(point.num_classes, point.num_named, bool(point.use_sigmoid))

    @classmethod
    def of_queries(cls, queries: Queries) -> 'Kind':
        """The kind of a set of queries; with softmax, its last column is 'no object'."""
        columns = queries.logits.shape[1]
        return cls(columns, columns - (not queries.use_sigmoid), queries.use_sigmoid)

    @property
    def is_one_logit(self) -> bool:
        """Whether it is one binary logit with sigmoid."""
        return self.use_sigmoid and self.columns == 1

    @property
    def is_two_logits(self) -> bool:
        """Whether it is two logits with softmax; their difference is the binary logit."""
        return not self.use_sigmoid and self.columns == 2

    @property
    def is_binary(self) -> bool:
        """Whether it is a binary prediction."""
        return self.is_one_logit or self.is_two_logits

    @property
    def yes(self) -> int:
        """Number of the positive class of a binary kind.

        A segmentor has names for both classes, and a single output is the logit of the second one:
        mmseg predicts label 1 above the threshold. A detector has one name, that of the first
        column; the negative class is the background.
        """
        return 1 if self.named == 2 else 0


class Columns(NamedTuple):
    """Replacement of the teacher's columns."""
    rows: Tuple[Terms, ...]
    """One per column of the student."""
    note: str = ''
    """Description, for the log."""

    @property
    def order(self) -> Optional[List[int]]:
        """The teacher's column for each column of the student; None if columns are computed."""
        if all(len(row) == 1 and row[0][1] == 1 for row in self.rows):
            return [row[0][0] for row in self.rows]
        return None

    def of(self, level: Tensor, columns: int) -> Tensor:
        """Map a level of the teacher to the student's columns.

        Args:
            level (Tensor): (N, anchors·columns, ...).
            columns (int): Number of the teacher's columns per prediction.

        Returns:
            Tensor: (N, anchors·len(rows), ...), float32 or wider if columns are computed.
        """
        anchors = level.unflatten(1, (-1, columns))
        if self.order is not None:
            return anchors.index_select(2, _index(tuple(self.order), level.device)).flatten(1, 2)
        anchors = anchors.to(torch.promote_types(level.dtype, torch.float32))
        found = []
        for row in self.rows:
            total = torch.zeros_like(anchors[:, :, 0])
            for column, factor in row:
                total = total + factor * anchors[:, :, column]
            found.append(total)
        return torch.stack(found, 2).flatten(1, 2)


@lru_cache(maxsize=64)  # a copy to a GPU makes the CPU wait
def _index(order: Tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(order, device=device)


def is_binary_pair(student: Kind, teacher: Kind) -> bool:
    """Whether one side has one logit with sigmoid, the other two with softmax, of one prediction.

    For two logits (z0, z1), sigmoid(z1 - z0) is the second probability of the softmax; for one
    logit z, softmax of (0, z) has the probability sigmoid(z). Both hold at every temperature.
    """
    return (bool(student.named) == bool(teacher.named) and
            ((student.is_one_logit and teacher.is_two_logits) or
             (student.is_two_logits and teacher.is_one_logit)))


def columns_between(student: Kind, teacher: Kind, student_classes: Optional[Sequence[str]],
                    teacher_classes: Optional[Sequence[str]],
                    as_sigmoid: bool = False) -> Optional[Columns]:
    """Find the replacement of the teacher's columns that has the meaning of the student's.

    Args:
        student (Kind): The student's columns.
        teacher (Kind): The teacher's.
        student_classes (Sequence[str], optional): Names of the student's classes, in the order of
            its columns. None if unknown; columns are then matched by order.
        teacher_classes (Sequence[str], optional): Names of the teacher's classes.
        as_sigmoid (bool): Whether the entry of ``distill`` has ``use_sigmoid=True``, which applies
            to two softmax columns, too. Defaults to False.

    Returns:
        Columns | None: None if the teacher's columns are not changed.

    Raises:
        ValueError: If the teacher lacks a class of the student.
    """
    if student.is_binary and teacher.is_binary and (student.is_one_logit or teacher.is_one_logit):
        agrees = _agrees(student, teacher, student_classes, teacher_classes)
        return _of_binary(student, teacher, agrees, as_sigmoid)
    if not (student.named and teacher.named and student_classes and teacher_classes):
        return None
    order = match_classes(student_classes, teacher_classes)
    if order is None:
        return None
    taken = [*order, *range(teacher.named, teacher.columns)]
    return Columns(tuple(((column, 1.), ) for column in taken),
                   "the teacher's columns are put into the student's order by class name")


def _agrees(student: Kind, teacher: Kind, student_classes: Optional[Sequence[str]],
            teacher_classes: Optional[Sequence[str]]) -> bool:
    """Whether the positive classes of both sides are the same; else they are opposite."""
    if not (student.named and teacher.named and student_classes and teacher_classes):
        return True
    if student.named > teacher.named:  # the teacher's negative class has no name
        match_classes(teacher_classes, student_classes)
    else:
        match_classes(student_classes, teacher_classes)
    return student_classes[student.yes] == teacher_classes[teacher.yes]


def _of_binary(student: Kind, teacher: Kind, agrees: bool, as_sigmoid: bool) -> Optional[Columns]:
    if teacher.is_two_logits:
        yes = teacher.yes if agrees else 1 - teacher.yes
        return Columns((((yes, 1.), (1 - yes, -1.)), ),
                       f"the teacher's two softmax columns are compared as one logit, z{yes} - "
                       f'z{1 - yes}')
    if student.is_one_logit:
        return None if agrees else Columns(
            (((0, -1.), ), ), "the teacher's one logit is that of the other class, so its sign is "
            'changed')
    yes = student.yes if agrees else 1 - student.yes
    no: Terms = ((0, -1.), ) if as_sigmoid else ()
    return Columns((no, ((0, 1.), )) if yes else (((0, 1.), ), no),
                   f"the teacher's one logit z is compared as two columns, z for column {yes} and "
                   f'{"-z" if as_sigmoid else "0"} for column {1 - yes}')


def check_names(kind: Kind, classes: Optional[Sequence[str]], side: str, is_stated: bool) -> None:
    """Check that a side has a column for each of its named classes.

    Raises:
        ValueError: If the numbers differ.
    """
    if classes is None or not kind.named or len(classes) == kind.named:
        return
    where = 'its `classes`' if is_stated else (
        'the training data' if side == 'student' else 'its checkpoint, config or data')
    name = 'name' if is_stated else 'names'
    raise ValueError(
        f'the {side}\'s head has columns for {kind.named} classes, but {where} {name} '
        f'{len(classes)}: {shown_names(classes)}; ' +
        ('write one name for each column' if is_stated else
         'give the head `num_classes` of the data, or the data the `metainfo` of these classes'
         if side == 'student' else
         'give it the `metainfo` that it was trained with, or a head of as many classes'))
