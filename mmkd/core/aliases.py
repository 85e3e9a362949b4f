"""Where does a name of the first edition lead now?"""
import warnings
from importlib import import_module
from typing import Any, Callable, List


def successor(old: str, new: str) -> Callable[[str], Any]:
    """A ``__getattr__`` for a module that was renamed: its names are found in the new one.

    The first use warns with the new name.

    Args:
        old (str): Full name of the module that asks.
        new (str): Full name of the module that it is called now.
    """
    warned: List[str] = []

    def find(name: str) -> Any:
        if name.startswith('__'):  # Python asks for these of its own accord
            raise AttributeError(f'module {old!r} has no attribute {name!r}')
        found = getattr(import_module(new), name)
        if not warned:
            warned.append(name)
            warnings.warn(f'`{old}` is called `{new}` now; import `{name}` from there',
                          FutureWarning, stacklevel=2)
        return found

    return find
