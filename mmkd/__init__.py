"""mmkd: knowledge distillation for models of the OpenMMLab world."""
from .requirements import check_installed

check_installed()

from .checkpoint import allow_mmengine_checkpoints
from .distiller import Distiller
from .hooks import DistillHook, TeacherEvalHook
from .losses import DISTLoss, KDLoss, MSELoss
from .registry import HEADS, HOOKS, MODELS
from .teachers import FrozenTeacher
from .version import __version__

allow_mmengine_checkpoints()

__all__ = [
    'HEADS',
    'HOOKS',
    'MODELS',
    'DISTLoss',
    'DistillHook',
    'Distiller',
    'FrozenTeacher',
    'KDLoss',
    'MSELoss',
    'TeacherEvalHook',
    '__version__'
]
