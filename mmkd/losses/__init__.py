"""How far is the student from the teacher? Tensors in, a scalar out."""
from ..core.table import LOSSES
from .base import DistillLoss
from .cwd import CWDLoss
from .dist import DISTLoss
from .kd import KDLoss
from .logits import LogitLoss
from .mse import MSELoss

__all__ = ['LOSSES', 'CWDLoss', 'DISTLoss', 'DistillLoss', 'KDLoss', 'LogitLoss', 'MSELoss']
