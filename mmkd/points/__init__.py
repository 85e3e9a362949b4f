"""Where are the points in a model? To add a family, subclass ``ModelFamily`` in a file."""
from typing import Any

from ..core.aliases import warn_renamed
from .families.dense import DenseHead
from .families.plain import PlainModel, PlainModule
from .families.query import QueryHead, SparseRoIHead
from .families.roi import RoIHead
from .families.segmentor import Segmentor
from .families.solo import GridOfInstances
from .family import ModelFamily, family_of, find_point, points_of
from .point import Answer, Answers, Point, tensors_of

# Of two that fit, the later speaks: a mask transformer of mmseg is a segmentor, too, and GLIP has
# a dense head.
from .families.mask import MaskTransformer, SideAdapter  # isort: skip
from .families.text import TextDetector  # isort: skip

__all__ = [
    'Answer',
    'Answers',
    'DenseHead',
    'GridOfInstances',
    'MaskTransformer',
    'ModelFamily',
    'PlainModel',
    'PlainModule',
    'Point',
    'QueryHead',
    'RoIHead',
    'Segmentor',
    'SideAdapter',
    'SparseRoIHead',
    'TextDetector',
    'family_of',
    'find_point',
    'points_of',
    'tensors_of'
]


def __getattr__(name: str) -> Any:
    if name not in RENAMED:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    warn_renamed(f'`mmkd.points.{name}`', f'`mmkd.points.{RENAMED[name]}`')
    return globals()[RENAMED[name]]


RENAMED = dict(HeadAdapter='ModelFamily', adapter_of='family_of')
"""Names of the first edition, and those of today."""
