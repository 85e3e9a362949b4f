"""Which columns replace the teacher's, and which of the student's are compared?"""
from functools import lru_cache
from typing import List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from .kind import Kind
from .merging import Groups, merged

Terms = Tuple[Tuple[int, float], ...]
"""(column, factor) pairs of the teacher; the weighted sum is a column of the student."""


class Columns(NamedTuple):
    """Replacement of the teacher's columns, and the columns of the student that are compared."""
    rows: Tuple[Terms, ...]
    """One per compared column of the student: columns of the teacher, or numbers of ``groups``."""
    note: str = ''
    """Description, for the log."""
    groups: Groups = ()
    """Columns of the teacher whose probabilities are added up first; () if there are none."""
    is_merged_by_sigmoid: bool = False
    """Whether the probabilities of a group are independent of each other."""
    kept: Optional[Tuple[int, ...]] = None
    """Numbers of the compared columns of the student; None for all."""

    @property
    def order(self) -> Optional[List[int]]:
        """The teacher's column for each column of the student; None if columns are computed."""
        if not self.groups and all(len(row) == 1 and row[0][1] == 1 for row in self.rows):
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
            return anchors.index_select(2, constant(tuple(self.order), level.device)).flatten(1, 2)
        anchors = anchors.to(torch.promote_types(level.dtype, torch.float32))
        if self.groups:
            anchors = merged(anchors, self.groups, 2, self.is_merged_by_sigmoid)
        found = []
        for row in self.rows:
            if len(row) == 1 and row[0][1] == 1:
                found.append(anchors[:, :, row[0][0]])
                continue
            total = torch.zeros_like(anchors[:, :, 0])
            for column, factor in row:
                total = total + factor * anchors[:, :, column]
            found.append(total)
        return torch.stack(found, 2).flatten(1, 2)

    def of_student(self, level: Tensor, columns: int) -> Tensor:
        """The compared columns of a level of the student.

        Args:
            level (Tensor): (N, anchors·columns, ...).
            columns (int): Number of the student's columns per prediction.

        Returns:
            Tensor: (N, anchors·len(rows), ...); ``level`` itself if all columns are compared.
        """
        if self.kept is None:
            return level
        return level.unflatten(1, (-1, columns)).index_select(
            2, constant(self.kept, level.device)).flatten(1, 2)


@lru_cache(maxsize=64)  # a copy to a GPU makes the CPU wait
def constant(order: Tuple[int, ...], device: torch.device) -> Tensor:
    """Whole numbers as a tensor on a device, which is made once."""
    return torch.tensor(order, device=device)


def of_binary(student: Kind, teacher: Kind, agrees: bool, as_sigmoid: bool) -> Optional[Columns]:
    if teacher.is_two_logits:
        yes = teacher.yes if agrees else 1 - teacher.yes
        return Columns((((yes, 1.), (1 - yes, -1.)), ),
                       f"the teacher's two softmax columns are compared as one logit, z{yes} - "
                       f'z{1 - yes}')
    if student.is_one_logit:
        return None if agrees else Columns(
            (((0, -1.), ), ), "the teacher's one logit is for the other class, so its sign is "
                              'changed')
    yes = student.yes if agrees else 1 - student.yes
    no: Terms = ((0, -1.), ) if as_sigmoid else ()
    return Columns((no, ((0, 1.), )) if yes else (((0, 1.), ), no),
                   f"the teacher's one logit z is compared as two columns, z for column {yes} and "
                   f'{"-z" if as_sigmoid else "0"} for column {1 - yes}')
