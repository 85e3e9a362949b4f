"""Python code of the documentation runs: the blocks of a page one after the other."""
import runpy
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from support.pages import Base

import mmkd
from mmkd.compare import vocabulary
from mmkd.losses import LOSSES, METHODS

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = runpy.run_path(str(ROOT / 'docs' / 'site' / 'blocks.py'))
CODE = {page: [block for block in BLOCKS['blocks_of'](page)
               if block.kind == 'python' and 'not run' not in block.marks]
        for page in BLOCKS['pages']()}
SLOW = ['docs/run.md', 'docs/training_modes.md', 'docs/worth_it.md']
"""Pages whose code takes longer than a second."""


@pytest.fixture
def tables(monkeypatch):
    """Classes and methods of an example are not there for other tests."""
    monkeypatch.setattr(vocabulary, 'PROVIDERS', dict(vocabulary.PROVIDERS))
    found = [LOSSES.classes, METHODS, mmkd.MODELS.module_dict, mmkd.FAMILIES.module_dict]
    before = [dict(table) for table in found]
    yield
    for table, names in zip(found, before):
        table.clear()
        table.update(names)


@pytest.mark.parametrize('page', [
    pytest.param(page, marks=[pytest.mark.slow] * (page in SLOW)) for page in CODE if CODE[page]])
def test_code_runs(page, tables, tmp_path, monkeypatch, request):
    name, parts = 'one-stage', {}
    for block in CODE[page]:  # a mark holds until the next one
        name = block.marks.get('on', name)
        parts.setdefault(name, []).append(block)
    for name, part in parts.items():
        folder = tmp_path / name
        folder.mkdir()
        code = ''.join(block.text for block in part)
        space = dict(__name__='of_a_reader')
        if ".py'" in code or 'runner' in code:
            base = Base(name, folder, request.getfixturevalue(
                'streets' if name == 'segmentor' else 'shapes'))
            base.provide(code)
            if 'runner' in code:
                space['runner'] = Runner.from_cfg(Config.fromfile(folder / 'student.py'))
        monkeypatch.chdir(folder)
        for block in part:
            exec(compile(block.text, block.place, 'exec'), space)
