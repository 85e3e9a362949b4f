"""Where are the points in a model? To add a family, subclass ``HeadAdapter`` in a file."""
from .base import Answer, Answers, HeadAdapter, Point, adapter_of, find_point, points_of
from .dense import DenseHead
from .query import QueryHead, SparseRoIHead
from .roi import RoIHead
from .segmentor import Segmentor
from .solo import GridOfInstances

# Of two that fit, the later speaks: a mask transformer of mmseg is a segmentor, too, and GLIP has
# a dense head.
from .mask import MaskTransformer, SideAdapter  # isort: skip
from .text import TextDetector  # isort: skip

__all__ = [
    'Answer', 'Answers', 'DenseHead', 'GridOfInstances', 'HeadAdapter', 'MaskTransformer', 'Point',
    'QueryHead', 'RoIHead', 'Segmentor', 'SideAdapter', 'SparseRoIHead', 'TextDetector',
    'adapter_of', 'find_point', 'points_of'
]
