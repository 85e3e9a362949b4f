"""How do the teacher's columns for classes become the student's?"""
from functools import lru_cache
from typing import List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from ..core.names import shown_names
from ..points import Point
from ..points.queries import Queries
from .classes import match_classes

Terms = Tuple[Tuple[int, float], ...]
"""Columns of the teacher and by what each is multiplied; their sum is a column of the student."""


class Kind(NamedTuple):
    """What the columns of one prediction are."""
    columns: int
    """How many there are."""
    named: int
    """How many classes of the data set they stand for. A last column beyond them is the
    background's. 0 where they tell objects from background only."""
    use_sigmoid: bool
    """Whether each column is a probability of its own."""

    @classmethod
    def of_point(cls, point: Point) -> 'Kind':
        """Of a point with class logits."""
        assert point.num_classes is not None
        return cls(point.num_classes, point.num_named, bool(point.use_sigmoid))

    @classmethod
    def of_queries(cls, queries: Queries) -> 'Kind':
        """Of predictions without an order, whose softmax has a column for 'no object'."""
        columns = queries.logits.shape[1]
        return cls(columns, columns - (not queries.use_sigmoid), queries.use_sigmoid)

    @property
    def is_one_logit(self) -> bool:
        """Whether it is the logit of yes against no."""
        return self.use_sigmoid and self.columns == 1

    @property
    def is_two_logits(self) -> bool:
        """Whether the difference of its two columns is the logit of yes against no."""
        return not self.use_sigmoid and self.columns == 2

    @property
    def is_binary(self) -> bool:
        """Whether it tells yes from no."""
        return self.is_one_logit or self.is_two_logits

    @property
    def yes(self) -> int:
        """Of a binary kind: the class that is yes.

        A segmentor names both classes, and one output is the logit of the second: mmseg predicts
        label 1 where it is above the threshold. A detector names one, the first column's; no is the
        background.
        """
        return 1 if self.named == 2 else 0


class Columns(NamedTuple):
    """What is put in the place of the teacher's columns."""
    rows: Tuple[Terms, ...]
    """One for each column of the student."""
    note: str = ''
    """What is done, in words."""

    @property
    def order(self) -> Optional[List[int]]:
        """The teacher's column for each of the student's; None where they are not taken as they
        are."""
        if all(len(row) == 1 and row[0][1] == 1 for row in self.rows):
            return [row[0][0] for row in self.rows]
        return None

    def of(self, level: Tensor, columns: int) -> Tensor:
        """The student's columns.

        Args:
            level (Tensor): (N, anchors·columns, ...).
            columns (int): The teacher's columns of one prediction.

        Returns:
            Tensor: (N, anchors·len(rows), ...), float32 or wider where columns are computed.
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


@lru_cache(maxsize=64)  # what is copied to a GPU makes the CPU wait for it
def _index(order: Tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(order, device=device)


def is_binary_pair(student: Kind, teacher: Kind) -> bool:
    """Whether one logit with sigmoid stands beside two columns with softmax, of the same thing.

    With z the one logit and (z0, z1) the two, the sigmoid of z1 - z0 is the softmax's second
    probability, and the softmax of (0, z) is that of the sigmoid, at every temperature.
    """
    return (bool(student.named) == bool(teacher.named) and
            ((student.is_one_logit and teacher.is_two_logits) or
             (student.is_two_logits and teacher.is_one_logit)))


def columns_between(student: Kind, teacher: Kind, student_classes: Optional[Sequence[str]],
                    teacher_classes: Optional[Sequence[str]],
                    as_sigmoid: bool = False) -> Optional[Columns]:
    """What is put in the place of the teacher's columns, so that they mean what the student's do.

    Args:
        student (Kind): The student's columns.
        teacher (Kind): The teacher's.
        student_classes (Sequence[str], optional): Names of the student's classes, in the order of
            its columns. None where unknown; then columns are taken by their order.
        teacher_classes (Sequence[str], optional): The teacher's.
        as_sigmoid (bool): Whether the entry of `distill` asks for a sigmoid also of two softmax
            columns. Defaults to False.

    Returns:
        Columns | None: None where they stay as they are.

    Raises:
        ValueError: If the teacher lacks one of the student's classes.
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
    """Whether yes of the student is yes of the teacher; else it is the teacher's no."""
    if not (student.named and teacher.named and student_classes and teacher_classes):
        return True
    if student.named > teacher.named:  # the teacher's no has no name
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
    """Look whether a side has a column for each of the classes that it names.

    Raises:
        ValueError: If not.
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
