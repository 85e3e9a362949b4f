"""The rooms stand on one another as docs/architecture.md says: imports run downwards."""
import ast
import pathlib
import sys
import warnings

import pytest

import mmkd

ROOT = pathlib.Path(mmkd.__file__).parent
ROOMS = ['version', 'core', 'registry', 'losses', 'points', 'files', 'data', 'networks', 'compare',
         'training', 'hooks', 'distiller', 'inspection', 'openmmlab']
"""From the ground up."""
STANDS_ON = {
    'losses': {'core'},
    'points': {'core', 'registry'},
    'files': {'core', 'version'},
    'data': {'core', 'registry'},
    'networks': {'core', 'registry', 'version', 'points', 'files'},
    'compare': {'core', 'registry', 'losses', 'points', 'files', 'networks'},
}
"""Rooms that do not know all that lies below them."""


def room_of(module):
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


def test_every_module_has_its_room():
    found = {path.relative_to(ROOT).parts[0].removesuffix('.py') for path in ROOT.rglob('*.py')}
    assert found - {'__init__', 'heads', 'teachers'} == set(ROOMS)


@pytest.mark.parametrize('path', sorted(ROOT.rglob('*.py')), ids=lambda path: str(
    path.relative_to(ROOT)))
def test_imports_run_downwards(path):
    own = path.relative_to(ROOT).parts[0].removesuffix('.py')
    if own in ('__init__', 'heads', 'teachers'):
        return
    below = STANDS_ON.get(own, set(ROOMS[:ROOMS.index(own)])) | {own}
    if own == 'openmmlab':  # it loads the aliases
        below |= {'heads', 'teachers'}
    upward = {name for name in imports_of(path) if room_of(name) not in below}
    assert not upward


def test_names_of_the_first_edition_say_their_successor_once(monkeypatch):
    for name in ('heads', 'teachers'):
        monkeypatch.delitem(sys.modules, f'mmkd.{name}', raising=False)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        from mmkd.heads import HeadAdapter
        from mmkd.teachers import BaseTeacher, FrozenTeacher  # noqa: F401
    assert BaseTeacher is mmkd.networks.BaseTeacher
    assert HeadAdapter is mmkd.points.HeadAdapter
    assert [str(one.message) for one in said if 'mmkd' in str(one.message)] == [
        '`mmkd.heads` is called `mmkd.points` now; import `HeadAdapter` from there',
        '`mmkd.teachers` is called `mmkd.networks` now; import `BaseTeacher` from there']
