"""tools/folds.py: the split, the configs of the teachers, and the file for mmkd.CrossFit."""
import argparse
import importlib
import json
import os
import shutil

import pytest
from conftest import detector_config, retinanet, save_teacher, segmentor, segmentor_config
from mmengine.config import Config
from support.tools import TOOLS
from support.tools import run_tool as run

from mmkd.files.folds import Folds


@pytest.fixture
def tool(monkeypatch, tmp_path):
    """Return tools/folds.py, and a function that runs it in a temporary folder without training."""
    monkeypatch.syspath_prepend(TOOLS)
    monkeypatch.chdir(tmp_path)
    folds, chain = (importlib.import_module(name) for name in ('folds', 'chain'))

    def trained(command):
        folder = command[command.index('--work-dir') + 1]
        config = Config.fromfile(command[2])
        save_teacher(os.path.join(folder, 'epoch_1.pth'), config.model.to_dict(),
                     seed=int(folder[-1]))
        return argparse.Namespace(returncode=0)

    monkeypatch.setattr(chain, 'subprocess', argparse.Namespace(run=trained))

    def call(*options):
        monkeypatch.setattr('sys.argv', ['folds.py', *map(str, options)])
        folds.main()

    call.split = folds.split
    return call


def detector(shapes, path, **changes):
    config = detector_config(shapes, retinanet(), 'unused', **changes)
    for key in ('work_dir', 'experiment_name'):
        config.pop(key)
    config.dump(str(path))


def test_each_image_is_in_one_fold_and_in_the_others_annotations(shapes, tool, tmp_path):
    detector(shapes, tmp_path / 'plain.py')
    tool('plain.py', '--folds', 2, '--work-dir', 'out', '--cfg-options', 'train_cfg.max_epochs=3')
    folds = Folds.read('out')
    assert folds.total == 2
    assert sorted(fold for fold, _ in folds.images.values()) == [0, 0, 1, 1]
    for number, teacher in enumerate(folds.teachers):
        config = Config.fromfile(teacher.config)
        assert config.train_cfg.max_epochs == 3
        with open(config.train_dataloader.dataset.ann_file) as file:
            content = json.load(file)
        names = {one['id']: one['file_name'] for one in content['images']}
        assert set(names.values()) == {name for name, (fold, _) in folds.images.items()
                                       if fold != number}
        assert {one['image_id'] for one in content['annotations']} == set(names)
        assert len(content['annotations']) == 6  # three per image
        assert os.path.isfile(teacher.checkpoint)
        assert config.val_dataloader.dataset.ann_file == f'{shapes}/instances.json'
    for name, (_, size) in folds.images.items():
        assert os.path.getsize(f'{shapes}/{name}') == size
    written = Config.fromfile('out/cross_fit.py')
    assert written.model.teacher == dict(type='mmkd.CrossFit', folder=str(tmp_path / 'out'))
    # The first one of mmkd/losses/recommended.py for one-stage detectors.
    assert written.model.distill == [dict(type='mmkd.DISTLoss', on='cls')]


def test_the_written_config_trains(shapes, tool, tmp_path):
    from conftest import train
    detector(shapes, tmp_path / 'plain.py', **{'train_cfg.val_interval': 9})
    tool('plain.py', '--folds', 2, '--work-dir', 'out')
    config = Config.fromfile('out/cross_fit.py')
    config.work_dir = str(tmp_path / 'run')
    _, losses = train(config)
    assert all(one['loss_cls_dist'] > 0 for one in losses)


def test_the_given_method_is_written(shapes, tool, tmp_path, capsys):
    detector(shapes, tmp_path / 'plain.py')
    tool('plain.py', '--folds', 2, '--work-dir', 'out', '--method', 'kd+mimic')
    written = Config.fromfile('out/cross_fit.py').model
    assert [(one.type, one.on) for one in written.distill] == [
        ('mmkd.KDLoss', 'cls'), ('mmkd.MSELoss', 'neck')]
    assert written.teacher.type == 'mmkd.CrossFit'
    assert 'in which they teach with kd+mimic\n' in capsys.readouterr().out


@pytest.mark.parametrize(('method', 'says'), [
    ('fgd', r'--method fgd needs a single teacher \(`inherit`\)'),
    ('crosskd', r'--method crosskd needs a single teacher \(`through`\), but the teachers of a '
                'cross-fitting are several; use another method'),
    ('dst', 'no method `dst`')])
def test_a_method_that_cannot_be_used_is_refused_before_training(shapes, tool, tmp_path, method,
                                                                 says):
    detector(shapes, tmp_path / 'plain.py')
    with pytest.raises(ValueError, match=says):
        tool('plain.py', '--folds', 2, '--work-dir', 'out', '--method', method)
    assert not os.path.exists('out/fold0')


def test_the_same_command_again_keeps_what_is_done(shapes, tool, tmp_path, capsys):
    detector(shapes, tmp_path / 'plain.py')
    tool('plain.py', '--folds', 2, '--work-dir', 'out')
    before = Folds.read('out')
    os.remove('out/fold1/done')
    capsys.readouterr()
    tool('plain.py', '--folds', 2, '--work-dir', 'out')
    assert capsys.readouterr().out.count('finished before') == 1
    assert Folds.read('out') == before
    for options in (['--seed', 1], ['--folds', 3]):
        with pytest.raises(ValueError, match='has another split .*use another --work-dir, or '
                                             'overwrite it by --overwrite'):
            tool('plain.py', '--folds', 2, '--work-dir', 'out', *options)


@pytest.mark.slow
def test_lists_of_a_segmentor_in_nested_folders(streets, tool, tmp_path):
    config = segmentor_config(streets, segmentor(), 'unused')
    for key in ('work_dir', 'experiment_name'):
        config.pop(key)
    config.dump(str(tmp_path / 'streets.py'))
    tool('streets.py', '--folds', 2, '--work-dir', 'out', '--split-only')
    folds = Folds.read('out')
    assert folds.teachers == []
    assert 'town/town_000000_leftImg8bit.png' in folds.images
    from mmengine.registry import DATASETS, DefaultScope
    for number in range(2):
        entry = Config.fromfile(f'out/fold{number}.py').train_dataloader.dataset
        with DefaultScope.overwrite_default_scope('mmseg'):
            dataset = DATASETS.build(entry)
        paths = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
        assert len(paths) == 2
        assert {folds.fold_of(path) for path in paths} == {1 - number}


def test_a_split_depends_on_the_seed_alone_and_is_even(tool):
    names = [f'{number}.png' for number in range(11)]
    found = tool.split(names, 3, 0)
    assert found == tool.split(names, 3, 0) != tool.split(names, 3, 1)
    assert sorted(list(found.values()).count(fold) for fold in range(3)) == [3, 4, 4]


def test_groups_stay_in_one_fold(tool):
    names = [f'video{v}/{number}.png' for v in range(4) for number in range(2 + v)]
    found = tool.split(names, 2, 0, r'^video\d')
    for v in range(4):
        assert len({fold for name, fold in found.items() if name.startswith(f'video{v}')}) == 1
    assert sorted(list(found.values()).count(fold) for fold in range(2)) == [7, 7]
    with pytest.raises(SystemExit, match='14 training images in 4 groups cannot be split into 5'):
        tool.split(names, 5, 0, r'^video\d')
    with pytest.raises(SystemExit, match="'film' does not match video0/0.png"):
        tool.split(names, 2, 0, 'film')


def test_what_cannot_be_split_is_refused(shapes, tool, tmp_path, capsys):
    detector(shapes, tmp_path / 'plain.py')
    with pytest.raises(SystemExit, match='4 training images in 4 groups cannot be split into 5'):
        tool('plain.py', '--folds', 5, '--work-dir', 'out')
    with pytest.raises(SystemExit, match='no annotation file at nosuch.json'):
        tool('plain.py', '--work-dir', 'out', '--cfg-options',
             'train_dataloader.dataset.ann_file=nosuch.json')
    with pytest.raises(SystemExit, match='elsewhere has no image 0.png'):
        tool('plain.py', '--work-dir', 'out', '--cfg-options',
             'train_dataloader.dataset.data_prefix.img=elsewhere')
    config = Config.fromfile('plain.py')
    config.train_dataloader.dataset = dict(type='ConcatDataset', datasets=[
        config.train_dataloader.dataset])
    config.dump('several.py')
    with pytest.raises(SystemExit, match='a ConcatDataset of several data sets, which cannot be'):
        tool('several.py', '--work-dir', 'out')
    config.model = dict(type='mmkd.Distiller', student=config.model)
    config.dump('pair.py')
    with pytest.raises(SystemExit, match='pair.py has a teacher; use the plain config'):
        tool('pair.py', '--work-dir', 'out')
    for options, says in ((['--folds', 1], '--folds must be 2 or more'),
                          (['--group-by', '('], 'is no regular expression')):
        with pytest.raises(SystemExit):
            tool('plain.py', *options)
        assert says in capsys.readouterr().err


@pytest.mark.slow
def test_whole_on_the_command_line(shapes, tmp_path):
    detector(shapes, tmp_path / 'plain.py', **{'train_cfg.val_interval': 9})
    out = run('folds.py', 'plain.py', '--folds', 2, '--work-dir', 'out', cwd=tmp_path)
    assert '4 training images in 2 folds of 2, 2' in out.stdout
    shutil.rmtree(tmp_path / 'out' / 'fold1')
    run('folds.py', 'plain.py', '--folds', 2, '--work-dir', 'out', cwd=tmp_path)
    out = run('train.py', 'out/cross_fit.py', '--work-dir', 'run', cwd=tmp_path)
    assert 'each of 4 training images is taught by the one of 2 teachers' in out.stdout + out.stderr
