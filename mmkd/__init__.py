"""mmkd: knowledge distillation for models of the OpenMMLab world."""
from .requirements import check_installed

check_installed()

from .data_configs import guard_mmengine_yaml
from .distiller import Distiller
from .guard import allow_mmengine_checkpoints, guard_mmengine_loading
from .hooks import DistillHook, DistillScheduleHook, TeacherEvalHook
from .losses import CWDLoss, DISTLoss, KDLoss, MSELoss
from .registry import DATA_SAMPLERS, HEADS, HOOKS, MODELS, TRANSFORMS
from .replay import Replay
from .sampler import WeightedSampler
from .teachers import CachedTeacher, Committee, EarlierSelf, FrozenTeacher, MeanTeacher, Partner
from .tested import check_tested
from .transforms import PackViews
from .version import __version__

allow_mmengine_checkpoints()
guard_mmengine_loading(check_tested)
guard_mmengine_yaml()

__all__ = [
    'DATA_SAMPLERS',
    'HEADS',
    'HOOKS',
    'MODELS',
    'TRANSFORMS',
    'CWDLoss',
    'CachedTeacher',
    'Committee',
    'DISTLoss',
    'DistillHook',
    'DistillScheduleHook',
    'Distiller',
    'EarlierSelf',
    'FrozenTeacher',
    'KDLoss',
    'MSELoss',
    'MeanTeacher',
    'PackViews',
    'Partner',
    'Replay',
    'TeacherEvalHook',
    'WeightedSampler',
    '__version__'
]
