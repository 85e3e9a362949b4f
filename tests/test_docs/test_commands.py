"""Commands of the documentation are accepted by the parsers of their tools; their files exist."""
import re
import runpy
from pathlib import Path

import pytest
from support.commands import said, wrong

from mmkd.losses import METHODS

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = runpy.run_path(str(ROOT / 'docs' / 'site' / 'blocks.py'))
SNIPPETS = runpy.run_path(str(ROOT / 'docs' / 'site' / 'snippets.py'))
COMMANDS = [block for page in BLOCKS['pages']() for block in BLOCKS['blocks_of'](page)
            if block.kind in ('commands', 'console')]
METHOD = re.compile(r"\bMethod\('(\w+)'")
TOOL = re.compile(r'^python (?:tools|-m mmkd)\b')


def text_of(block):
    """The commands of a block, without those that the page shows as refused, and other programs."""
    if block.kind == 'commands':
        return block.text
    return '\n'.join(one.text for one in SNIPPETS['commands_of'](block.text)
                     if TOOL.match(one.text) and not re.match(r'(\w+\.py|mmkd): ', one.output))


@pytest.mark.parametrize('block', COMMANDS, ids=[block.place for block in COMMANDS])
def test_commands_are_accepted(block, tmp_path, monkeypatch):
    for name in METHOD.findall((ROOT / block.page).read_text()):  # of the reader, in an example
        monkeypatch.setitem(METHODS, name, METHODS['mimic'])
    (tmp_path / 'work_dirs').mkdir()
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    monkeypatch.chdir(tmp_path)
    for words in said(text_of(block), tmp_path):
        assert not wrong(words), words


@pytest.mark.parametrize(('command', 'fault'), [
    ('python tools/train.py configs/dist/retinanet_r50.py --resume', ''),
    ('python tools/train.py configs/dist/retinanet_r49.py', 'no configs/dist/retinanet_r49.py'),
    ('python tools/train.py STUDENT.py --techer TEACHER.py', 'tools/train.py refuses .*'),
    ('python tools/train.py STUDENT.py --method dist', 'tools/train.py refuses .*'),
    ('python tools/train.py configs/digits/student.py --cfg-options train_cfg.max_epoch=1',
     'configs/digits/student.py has no train_cfg.max_epoch'),
    ('python tools/trian.py', 'no tools/trian.py'), ('python -m mmkd trian', 'no trian'),
    ('python -m mmkd train CONFIG', ''),
    ('for one in kd dits; do\npython tools/test.py configs/$one/retinanet_r50.py F\ndone',
     'no configs/dits/.*'),
    ('make tset', 'tset'), ('OMP_NUM_THREADS=1 make test', '')])
def test_a_wrong_command_is_found(command, fault, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert re.fullmatch(fault, ''.join(map(wrong, said(command, tmp_path))))


@pytest.mark.parametrize('command', ['tools/train.py STUDENT.py --teacher T.py --method dits'])
def test_an_unknown_method_is_found(command, tmp_path):
    words, = said(command, tmp_path)
    with pytest.raises(ValueError, match='dits'):
        wrong(words)
