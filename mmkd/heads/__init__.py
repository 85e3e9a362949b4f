"""Where are the points in a model? To add a family, subclass ``HeadAdapter`` in a file."""
from .base import HeadAdapter, Point, adapter_of, find_point, points_of
from .dense import DenseHead
from .query import QueryHead
from .roi import RoIHead
from .segmentor import Segmentor
from .solo import GridOfInstances

__all__ = [
    'DenseHead', 'GridOfInstances', 'HeadAdapter', 'Point', 'QueryHead', 'RoIHead', 'Segmentor',
    'adapter_of', 'find_point', 'points_of'
]
