"""Import one file of a clone, without what it imports from packages that are not installed."""
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock, patch

from importing import load as load_file


class _Registry:
    """A registry that registers nothing."""

    def register_module(self, *args: Any, **kwargs: Any) -> Any:
        return lambda cls: cls


def load(clone: str, path: str, *stubs: str) -> ModuleType:
    """Import a file of a clone.

    Args:
        clone (str): Path of the clone.
        path (str): Path of the file in it; the folders are packages.
        *stubs (str): Names of modules that stand for themselves: what is imported from them does
            nothing, a registry leaves a class as it is.
    """
    name = path.removesuffix('.py').replace('/', '.')
    packages = name.split('.')[:-1]
    found = {'.'.join(packages[:n + 1]): ModuleType(packages[n]) for n in range(len(packages))}
    for one in found.values():
        one.__path__ = []
    for stub in stubs:
        made = MagicMock(MODELS=_Registry(), LOSSES=_Registry(), Distiller=object)
        found[stub] = made
    with patch.dict(sys.modules, found):
        return load_file(Path(clone) / path, name)
