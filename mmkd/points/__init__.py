"""Points of models. To add a family of models, subclass ``ModelFamily`` in a file of its own."""
from typing import Any

from ..core.aliases import warn_renamed
from .families.classifier import Classifier
from .families.dense import DenseHead
from .families.mono3d import MonocularDetector
from .families.plain import PlainModel, PlainModule
from .families.pose import PoseEstimator
from .families.query import QueryHead, SparseRoIHead
from .families.roi import RoIHead
from .families.segmentor import Segmentor
from .families.solo import GridOfInstances
from .family import ModelFamily, family_of, find_point, kinds_of, points_of
from .point import Answer, Answers, Point, tensors_of

# If two families fit, the one that is registered later is used: a mask transformer of mmseg is also
# a segmentor, and GLIP and mmyolo's detectors have a dense head.
from .families.mask import MaskTransformer, SideAdapter  # isort: skip
from .families.text import TextDetector  # isort: skip
from .families.yolo import HeadOfModule  # isort: skip

__all__ = [
    'Answer',
    'Answers',
    'Classifier',
    'DenseHead',
    'GridOfInstances',
    'HeadOfModule',
    'MaskTransformer',
    'ModelFamily',
    'MonocularDetector',
    'PlainModel',
    'PlainModule',
    'Point',
    'PoseEstimator',
    'QueryHead',
    'RoIHead',
    'Segmentor',
    'SideAdapter',
    'SparseRoIHead',
    'TextDetector',
    'family_of',
    'find_point',
    'kinds_of',
    'points_of',
    'tensors_of'
]


def __getattr__(name: str) -> Any:
    if name not in RENAMED:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    warn_renamed(f'`mmkd.points.{name}`', f'`mmkd.points.{RENAMED[name]}`')
    return globals()[RENAMED[name]]


RENAMED = dict(HeadAdapter='ModelFamily', adapter_of='family_of')
"""Former names, and the current ones."""
