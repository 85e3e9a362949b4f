"""Where are the names of renamed modules?"""
import warnings
from importlib import import_module
from typing import Any, Callable, Dict, List, Set


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
            warnings.warn(f'`{old}` was renamed to `{new}`; import `{name}` from `{new}`',
                          FutureWarning, stacklevel=2)
        return found

    return find


def renamed_keys(entry: Dict[Any, Any], renamed: Dict[str, str], what: str) -> Dict[Any, Any]:
    """An entry of a config with the keys of the first edition under their names of today.

    Each old key is warned of once in a process.

    Args:
        entry (dict): The entry.
        renamed (dict[str, str]): New names by the old ones.
        what (str): What the entry is, for messages.

    Raises:
        ValueError: If an entry has both.
    """
    entry = dict(entry)
    for old, new in renamed.items():
        if old not in entry:
            continue
        if new in entry:
            raise ValueError(f'{what} has both `{new}={entry[new]!r}` and `{old}={entry[old]!r}`, '
                             f'the former name of the same argument; write `{new}` only')
        warn_renamed(f'`{old}` of {what}', f'`{new}`')
        entry[new] = entry.pop(old)
    return entry


WARNED: Set[str] = set()
"""Old names that were warned of in this process."""


def warn_renamed(old: str, new: str) -> None:
    """Name the successor of an old name, once in a process."""
    if old not in WARNED:
        WARNED.add(old)
        warnings.warn(f'{old} was renamed to {new}; write {new}', FutureWarning, stacklevel=3)
