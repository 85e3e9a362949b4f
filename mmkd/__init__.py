"""mmkd: knowledge distillation for models of the OpenMMLab world.

Where MMEngine is not installed, the losses work all the same: ``from mmkd.losses import KDLoss``.
"""
from importlib.util import find_spec
from typing import Any

if find_spec('mmengine') is not None:
    from .openmmlab import *
    from .openmmlab import __all__ as __all__
else:
    from .losses import *
    from .losses import __all__ as __all__
    from .version import __version__ as __version__

    def __getattr__(name: str) -> Any:
        if name[:1].isupper():  # something that needs MMEngine; modules are asked for, too
            from .core.requirements import check_installed
            check_installed()
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
