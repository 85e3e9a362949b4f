"""Where are the names of renamed modules?"""
import warnings
from importlib import import_module
from typing import Any, Callable, List


def successor(old: str, new: str) -> Callable[[str], Any]:
    """A ``__getattr__`` for the old name of a module, which looks names up in the new one.

    The first use warns and gives the new name.

    Args:
        old (str): Old full name of the module.
        new (str): New full name of the module.
    """
    warned: List[str] = []

    def find(name: str) -> Any:
        if name.startswith('__'):  # looked up by Python itself
            raise AttributeError(f'module {old!r} has no attribute {name!r}')
        found = getattr(import_module(new), name)
        if not warned:
            warned.append(name)
            warnings.warn(f'`{old}` is called `{new}` now; import `{name}` from there',
                          FutureWarning, stacklevel=2)
        return found

    return find
