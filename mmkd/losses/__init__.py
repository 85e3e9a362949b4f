"""How far is the student from the teacher? Tensors in, a scalar out."""
from ..core.table import LOSSES
from .across import gathered
from .base import DistillLoss
from .cwd import CWDLoss
from .dist import DISTLoss
from .kd import KDLoss
from .logits import LogitLoss
from .memory import Bank
from .mse import MSELoss

__all__ = ['LOSSES', 'Bank', 'CWDLoss', 'DISTLoss', 'DistillLoss', 'KDLoss', 'LogitLoss', 'MSELoss',
           'gathered']
