"""Names and arguments in the documentation exist, also where nothing runs; outputs are compared.

test_blocks.py says which block is checked how.
"""
import ast
import contextlib
import inspect
import re
import runpy
from pathlib import Path

import pytest
from conftest import build
from mmengine.config import Config

import mmkd
from mmkd.compare.spec import read_entry

ROOT = Path(__file__).resolve().parents[2]
SNIPPETS = runpy.run_path(str(ROOT / 'docs' / 'site' / 'snippets.py'))
PAGES = sorted(str(one.relative_to(ROOT)) for pattern in ('*.md', 'docs/**/*.md', 'configs/**/*.md')
               for one in ROOT.glob(pattern) if one.name != 'CHANGELOG.md')
PYTHON = re.compile(r'^```python\n(?P<code>.*?)^```$', re.M | re.S)
YOURS = ['MyLoss', 'MyConnector', 'MyRegion']
"""Classes of a reader, in examples."""
ENTRY_KEYS = set(inspect.signature(read_entry).parameters) | {'between', 'if_there'}
"""Of an entry of `distill`; `if_there` of one of a Method, in docs/methods.md."""


def text_of(path):
    return (ROOT / path).read_text()


def parsed(code):
    """A block as a module, or as arguments of a call: `teacher=dict(...), distill=[...]`."""
    code = code.replace('…', '...')
    left_out = re.sub(r'(, *)\.\.\.(?=,)', r'\1**{}', code)  # dict(type=..., ..., more=1)
    for text in (code, left_out, f'f(\n{code}\n)', f'f(\n{left_out}\n)'):
        with contextlib.suppress(SyntaxError):
            return ast.parse(text)
    return ast.parse(code)


def wrong_names(tree):
    """Types of mmkd, and their arguments, that do not exist."""
    wrong = []
    own = {one.name for one in ast.walk(tree) if isinstance(one, ast.ClassDef)} | set(YOURS)
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or getattr(call.func, 'id', '') != 'dict':
            continue
        given = {one.arg: one.value for one in call.keywords if one.arg}
        name = getattr(given.get('type'), 'value', None)
        if not isinstance(name, str) or not name.startswith('mmkd.') or name[5:] in own:
            continue
        kind = find(name)
        if kind is None:
            wrong.append(name)
            continue
        known = arguments_of(kind)
        wrong += [f'{name}({key})' for key in given if known is not None and key not in known]
    return wrong


def find(name):
    for registry in (mmkd.MODELS, mmkd.HOOKS, mmkd.TRANSFORMS, mmkd.DATASETS, mmkd.DATA_SAMPLERS):
        found = registry.get(name)
        if found is not None:
            return found
    return getattr(mmkd, name.removeprefix('mmkd.'), None)


def arguments_of(kind):
    """Names of arguments of a class in a config; None where it takes any."""
    known = {'type', '_delete_'}
    for one in kind.__mro__:
        if '__init__' not in vars(one):
            continue
        parameters = inspect.signature(one.__init__).parameters.values()
        known |= {parameter.name for parameter in parameters}
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    else:
        return None
    return known | (ENTRY_KEYS if issubclass(kind, mmkd.DistillLoss) else set())


@pytest.mark.parametrize('path', [one for one in PAGES if PYTHON.search(text_of(one))])
def test_types_and_arguments_exist(path):
    for found in PYTHON.finditer(text_of(path)):
        assert not wrong_names(parsed(found['code'])), found['code']


@pytest.mark.parametrize(('code', 'wrong'), [
    ("distill=[dict(type='mmkd.KDLoss', on='cls', tau=2.)]", []),
    ("distill=[dict(type='mmkd.KDLos', on='cls')]", ['mmkd.KDLos']),
    ("distill=[dict(type='mmkd.KDLoss', on='cls', tua=2.)]", ['mmkd.KDLoss(tua)']),
    ("model = dict(type='mmkd.Distiller', student=…, distil=[])", ['mmkd.Distiller(distil)']),
    ("hooks=[dict(type='mmkd.DistillScheduleHook', until=1)]",
     ['mmkd.DistillScheduleHook(until)'])])
def test_a_wrong_name_is_found(code, wrong):
    assert wrong_names(parsed(code)) == wrong


@pytest.mark.slow
@pytest.mark.parametrize('path', [one for one in PAGES if "_base_ = ['mmdet::retina" in text_of(one)
                                  and 'docs/' in one])
def test_complete_configs_are_built(path, tmp_path):
    """Those of a student that mmdet has; the teacher is built in training only."""
    built = 0
    for found in PYTHON.finditer(text_of(path)):
        if "_base_ = ['mmdet::retina" in found['code'] and 'mmkd.Distiller' in found['code']:
            (tmp_path / 'config.py').write_text(found['code'])
            config = Config.fromfile(tmp_path / 'config.py')
            config.model.classes = [str(number) for number in range(80)]
            assert mmkd.Distiller in type(build(config.model)).__mro__
            built += 1
    assert built


def test_console_blocks_are_read_as_commands_with_their_output():
    block, = SNIPPETS['BLOCK'].finditer('A\n\n```console\n$ ls \\\n  -l\na\nb\n$ cd\n```\n')
    assert SNIPPETS['commands_of'](block['inside']) == [('ls \\\n  -l', 'a\nb'), ('cd', '')]
    with pytest.raises(ValueError, match="but got 'ls'"):
        SNIPPETS['commands_of']('ls\n')


@pytest.mark.parametrize(('page', 'output', 'is_same'), [
    ('a\nb', 'a\nb  \n', True), ('a\nb', 'a\nc', False), ('a\n...\nd', 'a\nb\nc\nd', True),
    ('a ... s', 'a 12 s', True), ('a ... s', 'a 12 min', False), ('', 'a', False)])
def test_output_is_compared(page, output, is_same):
    assert SNIPPETS['matches'](page, output) is is_same


def test_commands_run_and_differences_are_told(tmp_path):
    page = tmp_path / 'page.md'
    page.write_text('```console\n$ echo a; ls -d tools\na\ntools\n$ echo b\nc\n```\n')
    fault, = SNIPPETS['check'](page, False)
    assert fault.startswith('page.md: echo b\n')
    assert '-c\n+b' in fault
    assert not list(SNIPPETS['check'](page, True))
    assert page.read_text() == '```console\n$ echo a; ls -d tools\na\ntools\n$ echo b\nb\n```\n'
