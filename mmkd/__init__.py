"""mmkd: knowledge distillation for models of the OpenMMLab world."""
from .requirements import check_installed

check_installed()

from .checkpoint import allow_mmengine_checkpoints
from .distiller import Distiller
from .losses import DISTLoss, KDLoss
from .registry import HEADS, MODELS
from .teachers import FrozenTeacher
from .version import __version__

allow_mmengine_checkpoints()

__all__ = [
    'HEADS',
    'MODELS',
    'DISTLoss',
    'Distiller',
    'FrozenTeacher',
    'KDLoss',
    '__version__'
]
