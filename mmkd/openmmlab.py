"""What mmkd has where MMEngine is installed; MMEngine reads files as weights alone from here on."""
from .core.requirements import check_installed

check_installed()

from . import heads, teachers  # noqa: F401
from .data.replay import Replay
from .data.sampler import WeightedSampler
from .data.transforms import PackViews
from .distiller import Distiller
from .files.data_configs import guard_mmengine_yaml
from .files.guard import allow_mmengine_checkpoints, guard_mmengine_loading
from .files.tested import check_tested
from .hooks import DistillHook, DistillScheduleHook, TeacherEvalHook
from .losses import LOSSES, CWDLoss, DistillLoss, DISTLoss, KDLoss, LogitLoss, MSELoss
from .networks import (
    CachedTeacher,
    Committee,
    EarlierSelf,
    FrozenTeacher,
    MeanTeacher,
    ModuleTeacher,
    Partner,
)
from .registry import DATA_SAMPLERS, HEADS, HOOKS, MODELS, TRANSFORMS
from .version import __version__

allow_mmengine_checkpoints()
guard_mmengine_loading(check_tested)
guard_mmengine_yaml()

__all__ = [
    'DATA_SAMPLERS',
    'HEADS',
    'HOOKS',
    'LOSSES',
    'MODELS',
    'TRANSFORMS',
    'CWDLoss',
    'CachedTeacher',
    'Committee',
    'DISTLoss',
    'DistillHook',
    'DistillLoss',
    'DistillScheduleHook',
    'Distiller',
    'EarlierSelf',
    'FrozenTeacher',
    'KDLoss',
    'LogitLoss',
    'MSELoss',
    'MeanTeacher',
    'ModuleTeacher',
    'PackViews',
    'Partner',
    'Replay',
    'TeacherEvalHook',
    'WeightedSampler',
    '__version__'
]
