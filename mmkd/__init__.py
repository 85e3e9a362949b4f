"""mmkd: knowledge distillation for models of the OpenMMLab world.

Where MMEngine is not installed, the losses still work: ``from mmkd.losses import KDLoss``.
"""
import sys
from importlib.util import find_spec
from typing import Any, Optional

_found = find_spec('mmengine')

import_error: Optional[Exception] = None
"""Why an import failed, for `python -m mmkd`, whose command `env` reports a broken environment."""

try:
    if _found is not None and _found.origin is not None:  # not just a folder of that name
        from .openmmlab import *
        from .openmmlab import __all__ as __all__
    else:
        from .losses import *
        from .losses import __all__ as __all__
        from .version import __version__ as __version__
except Exception as error:  # a library that does not fit the driver raises an OSError
    if sys.argv[:1] != ['-m']:  # while `python -m mmkd` is located
        raise
    import_error = error


def __getattr__(name: str) -> Any:
    if _found is not None and _found.origin is not None:
        if name == 'HEADS':
            from . import registry
            return registry.HEADS
    elif name[:1].isupper():  # something that needs MMEngine; this includes modules
        from .core.requirements import check_installed
        check_installed()
        raise ImportError(f'`mmkd.{name}` needs MMEngine, which is installed but cannot be '
                          'imported; only the losses, `mmkd.losses`, can be used without it')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
