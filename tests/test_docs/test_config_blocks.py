"""Configs of the documentation fit a pair of models: they are checked as before the first batch."""
import runpy
from pathlib import Path

import pytest
from mmengine.config import Config
from support.neighbours import needs
from support.pages import Base, check, text_of, variants

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = runpy.run_path(str(ROOT / 'docs' / 'site' / 'blocks.py'))
CONFIGS = [(block, number, given)
           for page in BLOCKS['pages']() for block in BLOCKS['blocks_of'](page)
           if block.kind == 'config' and 'not run' not in block.marks
           for number, given in enumerate(variants(BLOCKS['parsed'](block.text)))]
NAMES = [f'{block.place}-{number}' for block, number, _ in CONFIGS]
FOLDERS = {}


@pytest.fixture
def base(request, tmp_path_factory, monkeypatch):
    """Return the small models for a block, and make their folder the current one."""
    block = request.getfixturevalue('block')
    name = block.marks.get('on', 'one-stage')
    if name == 'classifier':
        needs('mmpretrain.models')
    if name not in FOLDERS:
        data = request.getfixturevalue('streets' if name == 'segmentor' else 'shapes')
        FOLDERS[name] = Base(name, tmp_path_factory.mktemp('page'), data)
    monkeypatch.chdir(FOLDERS[name].folder)
    monkeypatch.syspath_prepend(str(FOLDERS[name].folder))
    return FOLDERS[name]


def read(base, given):
    path = base.folder / 'config.py'
    text = text_of(given, base)
    base.provide(text)
    path.write_text(text)
    return Config.fromfile(path)


@pytest.mark.parametrize(('block', 'number', 'given'), CONFIGS, ids=NAMES)
def test_a_config_fits_a_pair(block, number, given, base):
    check(read(base, given), base)
