"""Registries of mmkd.

All except ``FAMILIES`` are children of MMEngine's root registries, so ``type='mmkd.DISTLoss'``
works in configs of all OpenMMLab projects. ``FAMILIES`` has the families of models; a family is
found by ``fits``, never named in a config.
"""
from typing import Any

from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

from .core.aliases import warn_renamed
from .core.table import LOSSES, PREPARED, check_name

MODELS = Registry(
    'model',
    parent=MMENGINE_MODELS,
    scope='mmkd',
    locations=['mmkd.losses', 'mmkd.networks', 'mmkd.compare.regions', 'mmkd.students.tree_head',
               'mmkd.students.efficientnet_lite', 'mmkd.training.pseudo_labels', 'mmkd.distiller',
               'mmkd.prepare'])
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='mmkd', locations=['mmkd.hooks'])
TRANSFORMS = Registry(
    'transform', parent=MMENGINE_TRANSFORMS, scope='mmkd',
    locations=['mmkd.data.transforms', 'mmkd.data.unlabelled'])
DATA_SAMPLERS = Registry(
    'data sampler', parent=MMENGINE_DATA_SAMPLERS, scope='mmkd', locations=['mmkd.data.sampler'])
OPTIM_WRAPPERS = Registry(
    'optim wrapper', parent=MMENGINE_OPTIM_WRAPPERS, scope='mmkd',
    locations=['mmkd.training.bfloat16'])
DATASETS = Registry(
    'dataset', parent=MMENGINE_DATASETS, scope='mmkd', locations=['mmkd.data.unlabelled'])
FAMILIES = Registry('model family', scope='mmkd', locations=['mmkd.points'])


def __getattr__(name: str) -> Any:
    if name == 'HEADS':
        warn_renamed('`HEADS` of mmkd', '`FAMILIES`')
        return FAMILIES
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def _keep(cls: type) -> None:
    check_name(cls, MODELS.module_dict.get(cls.__name__))
    MODELS.register_module(module=cls, force=True)


LOSSES.mirror(_keep)
PREPARED.mirror(_keep)
