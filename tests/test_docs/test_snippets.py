"""Code of the documentation: names and arguments exist, options of commands too; examples run."""
import ast
import contextlib
import functools
import inspect
import re
import runpy
from pathlib import Path

import pytest
from conftest import build
from mmengine.config import Config

import mmkd
from mmkd.__main__ import path_of, tools_of
from mmkd.compare.spec import read_entry
from mmkd.losses import LOSSES, METHODS

ROOT = Path(__file__).resolve().parents[2]
SNIPPETS = runpy.run_path(str(ROOT / 'docs' / 'site' / 'snippets.py'))
PAGES = sorted(str(one.relative_to(ROOT)) for pattern in ('*.md', 'docs/**/*.md', 'configs/**/*.md')
               for one in ROOT.glob(pattern) if one.name != 'CHANGELOG.md')
PYTHON = re.compile(r'^(?P<run><!-- run -->\n)?```python\n(?P<code>.*?)^```$', re.M | re.S)
FENCE = re.compile(r'^```.*?^```$', re.M | re.S)
COMMAND = re.compile(r'^(?:    |\$ )((?:[A-Z_]+=\S+ )*(?:python |tools/|benchmarks/|make ).*'
                     r'(?:(?<=\\)\n.*)*)', re.M)
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


def commands(path):
    """Commands of a page, but for those that it shows as refused."""
    text = FENCE.sub(lambda block: block[0] if block[0].startswith('```console') else '',
                     text_of(path))
    return [' '.join(found[1].replace('\\\n', ' ').split()) for found in COMMAND.finditer(text)
            if not re.match(r'\n(\w+\.py|mmkd): ', text[found.end():])]


@functools.cache
def options_of(script, seen=()):
    """Options in the source of a tool, and in that of the modules beside it that it imports."""
    text = script.read_text()
    found = set(re.findall(r"'(--?[a-z][\w-]*)'", text))
    for name in re.findall(r'^(?:from|import) (\w+)', text, re.M):
        for folder in (script.parent, ROOT / 'tools'):
            other = folder / f'{name}.py'
            if other.exists() and other not in seen:
                found |= options_of(other, (*seen, script, other))
    return found


def wrong_command(command):
    """What of a command of mmkd does not exist."""
    command = re.split(r'\s[#>|&]|;', command)[0]
    words = [word.strip('[]') for word in command.split()]
    while re.match(r'[A-Z_]+=', words[0]):
        words = words[1:]
    if words[0] == 'make':
        targets = re.findall(r'^([\w-]+):', text_of('Makefile'), re.M)
        return [word for word in words[1:] if '=' not in word and word not in targets]
    if words[0] == 'python':
        words = words[1:]
    if words[:2] == ['-m', 'mmkd'] and len(words) > 2:
        name = words[2] if words[2] != 'COMMAND' else 'train'
        script = path_of(name, tools_of(str(ROOT / 'tools')))
    else:
        script = words[0] if re.match(r'(tools|benchmarks|docs)/', words[0]) else None
        if script is None:
            return []
    if script is None or not (ROOT / script).exists():
        return [words[0]]
    wrong = []
    if str(script).endswith('.py'):
        known = options_of(ROOT / script) | {'--help', '-h'}
        flags = [re.split(r'[=|]', word)[0] for word in words if word.startswith('--')]
        wrong += [flag for flag in flags if flag not in known]
    paths = [word for word in words if re.fullmatch(r'configs/[\w/]+(\.py)?/?', word)]
    return wrong + [path for path in paths if not (ROOT / path).exists()]


@pytest.mark.parametrize('path', [one for one in PAGES if commands(one)])
def test_commands_and_their_options_exist(path):
    wrong = {command: wrong_command(command) for command in commands(path)}
    assert not {command: parts for command, parts in wrong.items() if parts}


@pytest.mark.parametrize(('command', 'wrong'), [
    ('python tools/train.py configs/dist/retinanet_r50.py --resume', []),
    ('python tools/train.py configs/dist/retinanet_r49.py', ['configs/dist/retinanet_r49.py']),
    ('python tools/train.py STUDENT.py --techer TEACHER.py', ['--techer']),
    ('python tools/trian.py', ['tools/trian.py']),
    ('make tset', ['tset']), ('OMP_NUM_THREADS=1 make test', [])])
def test_a_wrong_command_is_found(command, wrong):
    assert wrong_command(command) == wrong


@pytest.fixture
def tables():
    """Classes and methods of an example are not there for other tests."""
    found = [LOSSES.classes, METHODS, mmkd.MODELS.module_dict]
    before = [dict(table) for table in found]
    yield
    for table, names in zip(found, before):
        table.clear()
        table.update(names)


@pytest.mark.parametrize('path', [one for one in PAGES if '<!-- run -->' in text_of(one)])
def test_examples_run(path, tables):
    """The blocks behind `<!-- run -->`, one after the other."""
    space = dict(__name__='of_a_reader')
    for found in PYTHON.finditer(text_of(path)):
        if found['run']:
            exec(compile(found['code'], path, 'exec'), space)


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
