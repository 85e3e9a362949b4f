"""Has the code of a module of the user changed since a run?"""
import ast
import hashlib
import os
import sys
from typing import Dict, Iterator
from weakref import WeakKeyDictionary

DIGITS = 16
"""Number of hexadecimal digits of a SHA-256."""

FOREIGN = 'site-packages', 'dist-packages', os.path.dirname(os.__file__)
"""Parts of paths of code that is not the user's: installed, or Python's."""


def digest_of_module(name: str) -> str:
    """Digest of the source of a module, and of the modules of the user that it imports.

    Args:
        name (str): Its dotted name.

    Returns:
        str: '' for mmkd, installed packages, modules that are not imported, and those without a
        file, such as a notebook.

    Example:
        >>> digest_of_module('torch.nn'), digest_of_module('mmkd.losses')
        ('', '')
    """
    sources: Dict[str, bytes] = {}
    waiting = [name]
    while waiting:
        one = waiting.pop()
        content = b'' if one in sources else _source_of(one)
        if content:
            sources[one] = content
            waiting += _imports_of(one, content)
    if not sources:
        return ''
    found = hashlib.sha256()
    for one, content in sorted(sources.items()):
        found.update(f'{one}\n'.encode() + content)
    return found.hexdigest()[:DIGITS]


def _source_of(name: str) -> bytes:
    """The source of an imported module of the user; b'' if it is none."""
    file = getattr(sys.modules.get(name), '__file__', None)
    if name.partition('.')[0] == 'mmkd' or not file or not file.endswith('.py') or any(
            part in os.path.abspath(file) for part in FOREIGN):
        return b''
    try:
        with open(file, 'rb') as opened:
            return opened.read() or b'\n'
    except OSError:
        return b''


def _imports_of(name: str, source: bytes) -> Iterator[str]:
    """Names of modules that a module may import."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # it is being edited
        return
    package = name if hasattr(sys.modules.get(name), '__path__') else name.rpartition('.')[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split('.')[:len(package.split('.')) - node.level + 1]
            base = '.'.join([*above * bool(node.level), *filter(None, [node.module])])
            yield base
            yield from (f'{base}.{one.name}' for one in node.names)


def digest_of_code(cls: type) -> str:
    """Digest of the module of a class, as it was when this was called for the class first."""
    if cls not in _found:
        _found[cls] = digest_of_module(cls.__module__)
    return _found[cls]


_found: 'WeakKeyDictionary[type, str]' = WeakKeyDictionary()
