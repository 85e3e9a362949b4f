"""What --help of the tools shows: examples."""
import importlib
import re

import pytest
from support.tools import TOOLS

from mmkd.__main__ import tools_of

SCRIPTS = sorted(tools_of(TOOLS).values())


@pytest.fixture
def command(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module('command')


def docstring(path):
    with open(path) as file:
        return re.match(r'"""(.*?)"""', file.read(), re.S)[1].replace('\\\\', '\\')


@pytest.mark.parametrize('path', SCRIPTS, ids=lambda path: path.rpartition('/')[2])
def test_help_has_an_example_of_the_tool(command, path):
    """The parser is made as in the tool, with its docstring, and with what the tool describes."""
    with open(path) as file:
        text = file.read()
    described = '__doc__' if 'description=__doc__,' in text else "'What it does'"
    space = dict(Parser=command.Parser, __doc__=docstring(path))
    exec(f'parser = Parser(prog="tool", description={described})', space)
    shown = space['parser'].format_help()
    name = path.rpartition('/')[2]
    assert f'\n    python tools/{name} ' in shown or f'\n    python tools/{name}\n' in shown
    first, = re.findall(rf'^    python tools/{name}.*$', shown, re.M)[:1]
    assert shown.count(f'{first}\n') == 1  # and not twice


def test_a_tool_without_examples_has_none_in_its_help(command):
    space = dict(Parser=command.Parser, __doc__='A tool.\n\nFiles:\n    one.txt\n')
    exec('parser = Parser(description="A tool")', space)
    assert 'examples' not in space['parser'].format_help()
    assert 'one.txt' not in space['parser'].format_help()
