"""Imports between packages follow docs/architecture.md, and files and classes stay small."""
import ast
import collections
import functools
import importlib.util
import inspect
import pathlib
import sys
import warnings

import pytest

import mmkd

ROOT = pathlib.Path(mmkd.__file__).parent
PACKAGES = ['version', 'core', 'registry', 'students', 'losses', 'points', 'files', 'data',
            'networks', 'compare', 'training', 'hooks', 'prepare', 'distiller', 'written_config',
            'inspection', 'worth', 'reports', 'openmmlab']
"""In order: each package may import only those before it."""
MAY_IMPORT = {
    'losses': {'core'},
    'students': {'core', 'registry'},
    'points': {'core', 'registry'},
    'files': {'core', 'version'},
    'data': {'core', 'registry'},
    'networks': {'core', 'registry', 'version', 'points', 'files'},
    'compare': {'core', 'registry', 'losses', 'points', 'files', 'networks'},
}
"""Packages that may import only some of those before them."""

LINES, METHODS = 300, 15
"""Maximum number of lines of a file and of methods of a class."""
LONG_FILES = {
    'distiller.py': 'passes for the student to everything that walks modules',
}
WIDE_CLASSES = {
    'distiller.Distiller': 'passes for the student to MMEngine: most methods are those of its '
                           'model, answered in its place',
    **{f'networks.cached.{name}': '10 methods come from `BaseTeacher`, 7 find and keep answers'
       for name in ('Caching', 'CachedTeacher', 'CachedModuleTeacher')},
    'networks.partner.Partner': '13 methods come from `LiveNetwork`, 5 are its own',
}
"""Exceptions with their reasons. Remove an entry once the file or class is within the limit."""


def package_of(module):
    return module.split('.')[0]


def imports_of(path):
    """Modules of mmkd that a file imports, without 'mmkd.'."""
    package = ['mmkd', *path.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = package[:len(package) - node.level + 1] if node.level else []
            name = '.'.join([*base, *filter(None, [node.module])])
            names = [f'{name}.{one.name}' for one in node.names] if name == 'mmkd' else [name]
        elif isinstance(node, ast.Import):
            names = [one.name for one in node.names]
        else:
            continue
        yield from (name.partition('.')[2] for name in names if name.startswith('mmkd.'))


def test_every_module_belongs_to_a_package():
    found = {path.relative_to(ROOT).parts[0].removesuffix('.py') for path in ROOT.rglob('*.py')}
    assert found - {'__init__', '__main__', 'heads', 'teachers'} == set(PACKAGES)


def test_names_of_test_files_differ():
    """pytest imports a file outside a package by its name alone, so it refuses a second one."""
    files = [path.name for path in pathlib.Path(__file__).parent.rglob('test_*.py')]
    assert [name for name, times in collections.Counter(files).items() if times > 1] == []


@pytest.mark.parametrize('path', sorted(ROOT.rglob('*.py')), ids=lambda path: str(
    path.relative_to(ROOT)))
def test_imports_run_downwards(path):
    own = path.relative_to(ROOT).parts[0].removesuffix('.py')
    if own in ('__init__', '__main__', 'heads', 'teachers'):
        return
    below = MAY_IMPORT.get(own, set(PACKAGES[:PACKAGES.index(own)])) | {own}
    if own == 'openmmlab':  # openmmlab loads these aliases
        below |= {'heads', 'teachers'}
    upward = {name for name in imports_of(path) if package_of(name) not in below}
    assert not upward


def test_files_are_short():
    found = {str(path.relative_to(ROOT)): len(path.read_text().splitlines())
             for path in ROOT.rglob('*.py')}
    long = {name: count for name, count in found.items() if count > LINES}
    assert {name: count for name, count in long.items() if name not in LONG_FILES} == {}
    assert LONG_FILES.keys() - long.keys() == set(), 'within the limit; remove the exception'


def methods_of(kind):
    """Return the names of the methods and properties that a class has from mmkd, bases included."""
    return {name for base in kind.__mro__ if base.__module__.split('.')[0] == 'mmkd'
            for name, value in vars(base).items()
            if inspect.isfunction(value) or isinstance(
                value, (property, staticmethod, classmethod, functools.cached_property))}


def test_classes_are_narrow():
    wide = {}
    for path in ROOT.rglob('*.py'):
        name = '.'.join(path.relative_to(ROOT).with_suffix('').parts)
        if path.stem == '__init__' or name in ('heads', 'teachers'):  # these only re-export classes
            continue
        if 'import triton' in path.read_text() and not importlib.util.find_spec('triton'):
            continue
        for kind in vars(importlib.import_module(f'mmkd.{name}')).values():
            if inspect.isclass(kind) and kind.__module__ == f'mmkd.{name}':
                count = len(methods_of(kind))
                if count > METHODS:
                    wide[f'{name}.{kind.__name__}'] = count
    assert {name: count for name, count in wide.items() if name not in WIDE_CLASSES} == {}
    assert WIDE_CLASSES.keys() - wide.keys() == set(), 'within the limit; remove the exception'


def test_methods_are_counted_with_those_of_bases():
    from mmkd.networks.base import BaseTeacher
    from mmkd.networks.live import LiveNetwork
    assert {'observe', 'learn', 'forget', '_apply'} <= methods_of(LiveNetwork)
    assert methods_of(BaseTeacher) < methods_of(LiveNetwork)
    assert 'shared_modules' in methods_of(mmkd.networks.Partner)  # a property


def test_old_module_names_warn_once_and_name_the_new_ones(monkeypatch):
    for name in ('heads', 'teachers'):
        monkeypatch.delitem(sys.modules, f'mmkd.{name}', raising=False)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        from mmkd.heads import ModelFamily
        from mmkd.teachers import BaseTeacher, FrozenTeacher  # noqa: F401
    assert BaseTeacher is mmkd.networks.BaseTeacher
    assert ModelFamily is mmkd.points.ModelFamily
    assert [str(one.message) for one in said if 'mmkd' in str(one.message)] == [
        '`mmkd.heads` was renamed to `mmkd.points`; import `ModelFamily` from `mmkd.points`',
        '`mmkd.teachers` was renamed to `mmkd.networks`; import `BaseTeacher` from `mmkd.networks`']
