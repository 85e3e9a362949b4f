"""What mmkd has where MMEngine is installed; MMEngine reads files as weights alone from here on."""
from .core.requirements import check_installed

check_installed()

from . import heads, teachers  # noqa: F401
from .compare.connectors import Connector
from .compare.regions import Foreground, Region, Valid, inside_of
from .compare.vocabulary import Context, provides
from .data.replay import Replay
from .data.sampler import WeightedSampler
from .data.transforms import PackViews
from .distiller import Distiller
from .files.data_configs import guard_mmengine_yaml
from .files.guard import allow_mmengine_checkpoints, guard_mmengine_loading
from .files.tested import check_tested
from .hooks import DistillHook, DistillScheduleHook, TeacherEvalHook
from .losses import (
    LOSSES,
    Bank,
    CWDLoss,
    DistillLoss,
    DISTLoss,
    KDLoss,
    LogitLoss,
    MSELoss,
    PGDClsLoss,
    PGDRegLoss,
    gathered,
)
from .networks import (
    BaseTeacher,
    CachedTeacher,
    Committee,
    EarlierSelf,
    FrozenTeacher,
    MeanTeacher,
    ModuleTeacher,
    Partner,
)
from .points import ModelFamily, Point, tensors_of
from .registry import DATA_SAMPLERS, FAMILIES, HOOKS, MODELS, TRANSFORMS
from .version import __version__

allow_mmengine_checkpoints()
guard_mmengine_loading(check_tested)
guard_mmengine_yaml()

__all__ = [
    'DATA_SAMPLERS',
    'FAMILIES',
    'HOOKS',
    'LOSSES',
    'MODELS',
    'TRANSFORMS',
    'Bank',
    'BaseTeacher',
    'CWDLoss',
    'CachedTeacher',
    'Committee',
    'Connector',
    'Context',
    'DISTLoss',
    'DistillHook',
    'DistillLoss',
    'DistillScheduleHook',
    'Distiller',
    'EarlierSelf',
    'Foreground',
    'FrozenTeacher',
    'KDLoss',
    'LogitLoss',
    'MSELoss',
    'MeanTeacher',
    'ModelFamily',
    'ModuleTeacher',
    'PGDClsLoss',
    'PGDRegLoss',
    'PackViews',
    'Partner',
    'Point',
    'Region',
    'Replay',
    'TeacherEvalHook',
    'Valid',
    'WeightedSampler',
    '__version__',
    'gathered',
    'inside_of',
    'provides',
    'tensors_of'
]
