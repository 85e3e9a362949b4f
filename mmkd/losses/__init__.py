"""How far is the student from the teacher? Tensors in, a scalar out."""
from ..core.table import LOSSES
from .across import gathered
from .base import DistillLoss
from .cwd import CWDLoss
from .dist import DISTLoss
from .kd import KDLoss
from .logits import LogitLoss
from .memory import Bank
from .method import METHODS, Method
from .mse import MSELoss
from .pgd import PGDClsLoss, PGDRegLoss

__all__ = [
           'LOSSES',
           'METHODS',
           'Bank',
           'CWDLoss',
           'DISTLoss',
           'DistillLoss',
           'KDLoss',
           'LogitLoss',
           'MSELoss',
           'Method',
           'PGDClsLoss',
           'PGDRegLoss',
           'gathered',
]
