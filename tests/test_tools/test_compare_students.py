"""Students of tools/compare.py that are names of methods, whose configs are written."""
import importlib

import pytest
from conftest import detector_config, retinanet
from mmengine.config import Config
from support.tools import TOOLS

from mmkd.core.prepared_file import write_prepared
from mmkd.losses.maskd import MaskTokens
from mmkd.losses.recommended import recommended


@pytest.fixture
def configs_of(shapes, tmp_path, monkeypatch):
    """The configs that compare.py trains for some words of the command line, by name."""
    monkeypatch.syspath_prepend(TOOLS)
    compare = importlib.import_module('compare')
    monkeypatch.chdir(tmp_path)
    for name, width in dict(student=8, teacher=12).items():
        path = tmp_path / 'pair' / f'{name}.py'
        path.parent.mkdir(exist_ok=True)
        detector_config(shapes, retinanet(width=width), 'unused').dump(str(path))
    trained = {}

    def finish_run(args, name, seed, config):
        trained[name, seed] = config
        return dict(checkpoint='trained.pth')

    monkeypatch.setattr(compare, 'finish_run', finish_run)

    def configs(*words):
        trained.clear()
        monkeypatch.setattr('sys.argv', ['compare.py', 'pair', *words])
        compare.all_runs(compare.parse_args())
        return trained

    return configs


def entries_of(config):
    return [(entry.type, entry.on) for entry in config.model.distill]


def test_names_of_methods(configs_of, tmp_path):
    found = configs_of('--methods', 'student', 'pkd', 'kd+mimic', 'auto', '--seeds', '3', '4',
                       '--cfg-options', 'train_cfg.max_epochs=7')
    assert [*found] == [('teacher', 0), *((name, seed) for seed in (3, 4) for name in (
        'student', 'pkd', 'kd+mimic', 'auto'))]
    assert entries_of(found['pkd', 3]) == [('mmkd.PKDLoss', 'neck')]
    assert entries_of(found['kd+mimic', 4]) == [('mmkd.KDLoss', 'cls'), ('mmkd.MSELoss', 'neck')]
    first, _ = recommended('dense', lambda method: True)
    name = entries_of(found['auto', 3])[0][0]
    assert name.removeprefix('mmkd.').removesuffix('Loss').lower() == first
    for (name, seed), config in found.items():
        assert config.randomness.seed == seed
        if name not in ('teacher', 'student'):
            assert config.model.teacher.checkpoint == 'trained.pth'
            assert config.train_cfg.max_epochs == 7
            path = tmp_path / 'work_dirs' / 'pair' / 'configs' / f'{name}.py'
            assert Config.fromfile(path).model.type == 'mmkd.Distiller'


def test_a_config_of_the_folder_comes_first(configs_of, tmp_path):
    (tmp_path / 'pair' / 'pkd.py').write_text('''_base_ = ['./student.py']
model = dict(_delete_=True, type='mmkd.Distiller', student=_base_.model,
             teacher=dict(config='{{ fileDirname }}/teacher.py', checkpoint='set by the tool'),
             distill=[dict(type='mmkd.DISTLoss', on='cls')])
''')
    assert entries_of(configs_of('--methods', 'pkd')['pkd', 0]) == [('mmkd.DISTLoss', 'cls')]


def test_methods_with_a_first_stage(configs_of, tmp_path):
    with pytest.raises(ValueError, match='prepared'):
        configs_of('--methods', 'maskd')
    module = MaskTokens()
    module.setup(16)
    write_prepared('prepared.pth', dict(
        type='MaskTokens', arguments={}, teacher={}, on='neck', paths=['neck'], channels=[16] * 5,
        is_logits=False), [module.state_dict()] * 5)
    found = configs_of('--methods', 'maskd', '--prepared', 'prepared.pth')['maskd', 0]
    assert found.model.distill[0].tokens == str(tmp_path / 'prepared.pth')


def test_names_that_are_none(configs_of, tmp_path):
    with pytest.raises(SystemExit, match=r"no config 'pkb'; the configs of pair are \['student'\], "
                                         'and there is no method `pkb`; write `pkd`, the closest'):
        configs_of('--methods', 'student', 'pkb')
    with pytest.raises(ValueError, match='`dkd`'):  # undefined for sigmoid heads
        configs_of('--methods', 'dkd')
    (tmp_path / 'pair' / 'student.py').unlink()
    with pytest.raises(SystemExit, match='no student.py in pair, which --methods pkd needs'):
        configs_of('--methods', 'pkd')
