"""The parts of mmkd that need MMEngine. Their import makes MMEngine load files as weights only."""
from .core.requirements import check_installed

check_installed()

from . import heads, teachers  # noqa: F401
from .compare.connectors import Connector
from .compare.regions import Foreground, Region, Valid, inside_of
from .compare.vocabulary import Context, provides
from .data.replay import Replay
from .data.sampler import WeightedSampler
from .data.transforms import PackViews
from .data.unlabelled import BlankAnnotations, ImageFolder
from .distiller import Distiller
from .files.data_configs import guard_mmengine_yaml
from .files.forks import know_forks
from .files.guard import allow_mmengine_checkpoints, guard_mmengine_loading
from .files.tested import check_tested
from .hooks import DistillHook, DistillScheduleHook, GradientShareHook, TeacherEvalHook
from .losses import *  # noqa: F403
from .losses import __all__ as _losses
from .networks import (
    BaseTeacher,
    CachedModuleTeacher,
    CachedTeacher,
    Committee,
    CrossFit,
    EarlierSelf,
    FrozenTeacher,
    MeanTeacher,
    ModuleTeacher,
    Partner,
)
from .points import ModelFamily, Point, tensors_of
from .prepare import Prepare
from .registry import DATA_SAMPLERS, DATASETS, FAMILIES, HOOKS, MODELS, TRANSFORMS
from .students.efficientnet_lite import EfficientNetLite
from .students.soft_tree import SoftTree
from .students.tree_head import soft_tree_head
from .training.bfloat16 import BFloat16OptimWrapper
from .training.pseudo_labels import PseudoLabels
from .version import __version__

allow_mmengine_checkpoints()
guard_mmengine_loading(check_tested)
guard_mmengine_yaml()
know_forks()

__all__ = [
    'DATASETS',
    'DATA_SAMPLERS',
    'FAMILIES',
    'HOOKS',
    'MODELS',
    'TRANSFORMS',
    'BFloat16OptimWrapper',
    'BaseTeacher',
    'BlankAnnotations',
    'CachedModuleTeacher',
    'CachedTeacher',
    'Committee',
    'Connector',
    'Context',
    'CrossFit',
    'DistillHook',
    'DistillScheduleHook',
    'Distiller',
    'EarlierSelf',
    'EfficientNetLite',
    'Foreground',
    'FrozenTeacher',
    'GradientShareHook',
    'ImageFolder',
    'MeanTeacher',
    'ModelFamily',
    'ModuleTeacher',
    'PackViews',
    'Partner',
    'Point',
    'Prepare',
    'PseudoLabels',
    'Region',
    'Replay',
    'SoftTree',
    'TeacherEvalHook',
    'Valid',
    'WeightedSampler',
    '__version__',
    'inside_of',
    'provides',
    'soft_tree_head',
    'tensors_of'
]
__all__ += [name for name in _losses if name not in __all__]
