"""Where, in a model, are the logits and features that student and teacher are compared by?

One file per family of models. To add a family, copy ``dense.py``.
"""
from .base import HeadAdapter, Point, adapter_of, find_point
from .dense import DenseHead

__all__ = ['DenseHead', 'HeadAdapter', 'Point', 'adapter_of', 'find_point']
