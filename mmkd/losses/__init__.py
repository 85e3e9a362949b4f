"""How far is the student from the teacher? Tensors in, a scalar out.

Every file of this folder is imported, so a new loss is one file.
"""
from importlib import import_module
from pkgutil import iter_modules

from ..core.table import LOSSES, PREPARED
from .across import gathered
from .base import DistillLoss
from .cwd import CWDLoss
from .dist import DISTLoss
from .kd import KDLoss
from .logits import LogitLoss
from .memory import Bank
from .method import METHODS, Method, Recipe
from .mse import MSELoss
from .prepared import PreparedLoss, PreparedModule

for _module in iter_modules(__path__):
    import_module(f'{__name__}.{_module.name}')
globals().update(LOSSES.classes)
globals().update(PREPARED.classes)

__all__ = [
    'LOSSES',
    'METHODS',
    'PREPARED',
    'Bank',
    'CWDLoss',
    'DISTLoss',
    'DistillLoss',
    'KDLoss',
    'LogitLoss',
    'MSELoss',
    'Method',
    'PreparedLoss',
    'PreparedModule',
    'Recipe',
    'gathered',
]
__all__ += [_name for _name in (*LOSSES.classes, *PREPARED.classes) if _name not in __all__]
