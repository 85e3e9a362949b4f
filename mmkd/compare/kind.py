"""What do the columns of a prediction mean?"""
from typing import NamedTuple, Optional, Sequence

from ..core.names import shown_names
from ..points import Point
from ..points.queries import Queries


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


def is_binary_pair(student: Kind, teacher: Kind) -> bool:
    """Whether one side has one logit with sigmoid, the other two with softmax, of one prediction.

    For two logits (z0, z1), sigmoid(z1 - z0) is the second probability of the softmax; for one
    logit z, softmax of (0, z) has the probability sigmoid(z). Both hold at every temperature.
    """
    return (bool(student.named) == bool(teacher.named) and
            ((student.is_one_logit and teacher.is_two_logits) or
             (student.is_two_logits and teacher.is_one_logit)))


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
         'set `num_classes` of the head to that of the data, or set `metainfo` of the data to '
         'these classes'
         if side == 'student' else
         'use the `metainfo` that it was trained with, or a head with this number of classes'))
