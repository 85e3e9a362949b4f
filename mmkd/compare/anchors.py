"""Are the anchors of a position compared one by one, or jointly?"""
from typing import Optional

from ..losses import DistillLoss, LogitLoss
from ..points import Point
from .regions import Region
from .spec import TermSpec

FOR_ANCHORS = ('labels', 'label_weights', 'num_positives')
"""A loss that requests one of these compares each anchor separately."""


def is_per_anchor(spec: TermSpec, loss: DistillLoss, student: Point, is_activation_given: bool,
                  region: Optional[Region] = None) -> bool:
    """Whether each anchor of a position is compared separately.

    Args:
        spec (TermSpec): The entry.
        loss (DistillLoss): Its loss.
        student (Point): The point of the student.
        is_activation_given (bool): Whether the entry has ``use_sigmoid``, which then overrides the
            activation of the head.
        region (Region, optional): Its region. Defaults to None.

    Raises:
        ValueError: If the entry has ``per_anchor=False``, but its loss or region requires labels.
    """
    use_sigmoid = student.use_sigmoid
    if not student.columns:
        return False
    if is_activation_given and isinstance(loss, LogitLoss):
        use_sigmoid = loss.use_sigmoid
    askers = [loss.asked(), *([] if region is None else [region.asked()])]
    asks = any(name in FOR_ANCHORS for one in askers for name in one.names)
    if spec.per_anchor is None:
        return use_sigmoid is False or asks
    if asks and not spec.per_anchor:
        raise ValueError(f'`per_anchor=False`, but {type(loss).__name__}, or the region, requires '
                         'labels, and each anchor has its own label; leave `per_anchor` out')
    return spec.per_anchor
