"""Who teaches? To add a teacher, subclass ``BaseTeacher`` in a file of its own."""
from .base import BaseTeacher, Question
from .frozen import FrozenTeacher

__all__ = ['BaseTeacher', 'FrozenTeacher', 'Question']
