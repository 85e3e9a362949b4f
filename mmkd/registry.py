"""Where mmkd's classes are found by name.

All but ``HEADS`` are children of MMEngine's root registries, so a config of any OpenMMLab project
finds ``type='mmkd.DISTLoss'`` by its scope. ``HEADS`` holds the head adapters; they are chosen by
looking at a model, never by a config.
"""
from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

from .core.table import LOSSES, check_name

MODELS = Registry(
    'model',
    parent=MMENGINE_MODELS,
    scope='mmkd',
    locations=['mmkd.losses', 'mmkd.networks', 'mmkd.distiller'])
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='mmkd', locations=['mmkd.hooks'])
TRANSFORMS = Registry(
    'transform', parent=MMENGINE_TRANSFORMS, scope='mmkd', locations=['mmkd.data.transforms'])
DATA_SAMPLERS = Registry(
    'data sampler', parent=MMENGINE_DATA_SAMPLERS, scope='mmkd', locations=['mmkd.data.sampler'])
HEADS = Registry('head adapter', scope='mmkd', locations=['mmkd.points'])



def _keep(cls: type) -> None:
    check_name(cls, MODELS.module_dict.get(cls.__name__))
    MODELS.register_module(module=cls, force=True)


LOSSES.mirror(_keep)
