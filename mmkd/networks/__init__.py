"""Networks that teach. To add one, subclass ``BaseTeacher`` in a file of its own."""
from .base import BaseTeacher
from .cached import CachedModuleTeacher, CachedTeacher, Caching
from .committee import Committee
from .cross_fit import CrossFit
from .earlier import EarlierSelf
from .frozen import FrozenTeacher
from .live import Itself, LiveNetwork
from .mean import MeanTeacher
from .module import ModuleTeacher
from .observing import Question
from .partner import Partner

__all__ = ['BaseTeacher', 'CachedModuleTeacher', 'CachedTeacher', 'Caching', 'Committee',
           'CrossFit', 'EarlierSelf', 'FrozenTeacher', 'Itself', 'LiveNetwork', 'MeanTeacher',
           'ModuleTeacher', 'Partner', 'Question']
