"""Where are the points in a model? To add a family, subclass ``HeadAdapter`` in a file."""
from .base import Answer, Answers, HeadAdapter, Point, adapter_of, find_point, points_of
from .families.dense import DenseHead
from .families.plain import PlainModel, PlainModule
from .families.query import QueryHead, SparseRoIHead
from .families.roi import RoIHead
from .families.segmentor import Segmentor
from .families.solo import GridOfInstances

# Of two that fit, the later speaks: a mask transformer of mmseg is a segmentor, too, and GLIP has
# a dense head.
from .families.mask import MaskTransformer, SideAdapter  # isort: skip
from .families.text import TextDetector  # isort: skip

__all__ = [
    'Answer', 'Answers', 'DenseHead', 'GridOfInstances', 'HeadAdapter', 'MaskTransformer',
    'PlainModel', 'PlainModule', 'Point', 'QueryHead', 'RoIHead', 'Segmentor', 'SideAdapter',
    'SparseRoIHead', 'TextDetector', 'adapter_of', 'find_point', 'points_of'
]
