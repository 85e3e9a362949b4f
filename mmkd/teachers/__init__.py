"""Who teaches? To add a teacher, subclass ``BaseTeacher`` in a file of its own."""
from .base import BaseTeacher
from .frozen import FrozenTeacher

__all__ = ['BaseTeacher', 'FrozenTeacher']
