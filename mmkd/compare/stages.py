"""Which stages of two cascades are compared?"""
from typing import Tuple

from ..points import Point
from .spec import TermSpec


def choose_stages(spec: TermSpec, one: Point, other: Point) -> Tuple[Point, Point]:
    """Both points; for cascades, the stages to compare."""
    if spec.stage is not None and other.stages:
        return one, other.at_stage(spec.stage)
    if spec.stage is not None:
        if spec.stage == 'mean' and one.stages:
            raise ValueError("`stage='mean'` averages the stages of the teacher, but "
                             f'`{spec.on_teacher}` of the teacher has no stages; write the number '
                             'of a stage of the student, or leave `stage` out')
        return one.at_stage(spec.stage), other
    if len(one.stages) == len(other.stages):
        return one, other
    if one.stages and other.stages:
        raise ValueError(
            f'`{one.name}` has {len(one.stages)} stages in the student and '
            f"{len(other.stages)} in the teacher; write `stage=0` or `stage='mean'` for the "
            "teacher's")
    if other.stages:  # as the authors: the stage that is trained on proposals of the RPN
        return one, other.at_stage(0)
    return one.at_stage(0), other


def places(point: Point) -> str:
    """The kind of places that a head predicts for, for messages."""
    return 'RoIs' if point.asked_at else 'queries' if point.queries else 'a grid'
