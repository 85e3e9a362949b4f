"""Import a single file of a clone, without packages that are not installed."""
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock, patch

from importing import load as load_file


class _Registry:
    """A registry that does not register anything."""

    def register_module(self, *args: Any, **kwargs: Any) -> Any:
        return lambda cls: cls


def load(clone: str, path: str, *stubs: str) -> ModuleType:
    """Import a file of a clone.

    Args:
        clone (str): Path of the clone.
        path (str): Path of the file in the clone. Its folders are packages.
        *stubs (str): Names of modules that are replaced. Their members do nothing, and their
            registries do not change classes.
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
