"""Has the code of a module changed since a run?"""
import hashlib
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from weakref import WeakKeyDictionary

DIGITS = 16
"""Number of hexadecimal digits of a SHA-256."""


def digest_of_module(name: str) -> str:
    """Digest of the source of a module; of a package, of all its files.

    Args:
        name (str): Its dotted name.

    Returns:
        str: '' for mmkd, installed packages, and modules without a file, such as a notebook.

    Example:
        >>> digest_of_module('torch.nn'), digest_of_module('mmkd.losses')
        ('', '')
    """
    if name.partition('.')[0] == 'mmkd':
        return ''
    module = sys.modules.get(name)
    try:
        file = module.__file__ if module else getattr(find_spec(name), 'origin', None)
    except (ImportError, AttributeError, ValueError):
        return ''
    if not file or not file.endswith('.py') or not os.path.isfile(file) or (
            {'site-packages', 'dist-packages'} & set(Path(file).parts)):
        return ''
    path = Path(file)
    files = sorted(path.parent.rglob('*.py')) if path.name == '__init__.py' else [path]
    found = hashlib.sha256()
    for one in files:
        found.update(f'{one.relative_to(path.parent)}\n'.encode())
        found.update(one.read_bytes())
    return found.hexdigest()[:DIGITS]


def digest_of_code(cls: type) -> str:
    """Digest of the module of a class, as it was when this was called for the class first."""
    if cls not in _found:
        _found[cls] = digest_of_module(cls.__module__)
    return _found[cls]


_found: 'WeakKeyDictionary[type, str]' = WeakKeyDictionary()
