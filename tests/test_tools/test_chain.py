"""Consecutive trainings: generations, assistants, and the members of a committee."""
import argparse
import importlib
import json
import os
import pathlib

import pytest
import torch
from conftest import detector_config, distiller, retinanet, save_teacher, saved_at
from mmengine.config import Config
from support.tools import ROOT, TOOLS
from support.tools import run_tool as run

from mmkd import MODELS, WeightedSampler
from mmkd.losses import LOSSES, METHODS


@pytest.fixture
def plain(shapes, tmp_path):
    """Write a student's config, without validation to save time."""
    def write(name, **model):
        config = detector_config(shapes, retinanet(**model), 'unused', **{
            'train_cfg.val_interval': 10})
        config.pop('work_dir')
        config.pop('experiment_name')
        config.dump(str(tmp_path / name))
        return name

    return write


def weights(path):
    return saved_at(path)['state_dict']


def test_the_code_of_a_method_is_recorded(tmp_path, plain, monkeypatch):
    """Also where the config of a stage names no class of it."""
    monkeypatch.syspath_prepend(TOOLS)
    monkeypatch.syspath_prepend(str(tmp_path))
    chain = importlib.import_module('chain')
    own = tmp_path / 'recorded_loss.py'
    own.write_text("""from mmkd.losses import LOSSES, MSELoss, Method
@LOSSES.register
class RecordedLoss(MSELoss):
    scale = 1
Method('recorded', [dict(type='mmkd.RecordedLoss', on='neck')])
""")
    config = str(tmp_path / plain('plain.py'))
    with open(config, 'a') as file:
        file.write("\ncustom_imports = dict(imports=['mmkd', 'recorded_loss'])\n")
    args = argparse.Namespace(amp=False, auto_scale_lr=False, work_dir=str(tmp_path))
    stage = chain.Stage('one', [config, '--teacher', config, '--method', 'kd+recorded'])
    first = chain.record_of(args, stage, [stage])
    assert chain.record_of(args, stage, [stage]) == first
    own.write_text(own.read_text().replace('scale = 1', 'scale = 2'))
    now = chain.record_of(args, stage, [stage])
    assert chain.differences(first, now) == ['the content of the module recorded_loss has changed']
    without = {key: value for key, value in first.items() if 'module' not in key}
    assert chain.differences(without, now) == []  # of an earlier version
    del METHODS['recorded'], LOSSES.classes['RecordedLoss'], MODELS.module_dict['RecordedLoss']


@pytest.mark.slow
def test_generations_of_a_distillation_config(shapes, tmp_path, plain):
    teacher = save_teacher(tmp_path / 'unused.pth', retinanet())
    entry = dict(type='mmkd.KDLoss', on='cls', alpha=0.5)
    config = Config.fromfile(tmp_path / plain('plain.py'))
    config.model = distiller(retinanet(), teacher, entry)
    config.custom_hooks = [dict(type='mmkd.TeacherEvalHook')]
    config.dump(str(tmp_path / 'born.py'))
    out = run('train.py', 'born.py', '--generations', 2, cwd=tmp_path)
    folder = tmp_path / 'work_dirs' / 'born_generations'
    assert 'generation1/epoch_1.pth' in out.stdout
    first, second = (weights(folder / f'generation{i}' / 'epoch_1.pth') for i in range(2))
    name = 'backbone.conv1.weight'
    assert first.keys() == second.keys()
    # Initialised anew: otherwise the difference would be much smaller.
    assert (first[name] - second[name]).abs().max() > 0.1
    used = Config.fromfile(folder / 'generation1' / 'generation1.py').model.teacher.checkpoint
    assert used.endswith('generation0/epoch_1.pth')
    log = next((folder / 'generation0').glob('*/*.log')).read_text()
    assert 'loss_cls_kd' not in log
    # Finished stages are not trained again.
    out = run('train.py', 'born.py', '--generations', 2, cwd=tmp_path)
    assert out.stdout.count('finished before') == 2


@pytest.mark.slow
def test_assistants_are_trained_in_turn(tmp_path, plain, shapes):
    big = save_teacher(tmp_path / 'big.pth', retinanet(width=12))['checkpoint']
    names = plain('big.py', width=12), plain('middle.py', width=10), plain('small.py')
    out = run('train.py', names[2], '--teacher', names[0], '--teacher-checkpoint', big,
              '--assistant', names[1], '--method', 'kd', '--work-dir', 'chain', cwd=tmp_path)
    assert '[1/2] 0_middle' in out.stdout
    assert '[2/2] 1_small' in out.stdout
    teacher = Config.fromfile(tmp_path / 'chain' / '1_small' / 'distill.py').model.teacher
    assert teacher.config == str(tmp_path / 'middle.py')
    assert teacher.checkpoint == str(tmp_path / 'chain' / '0_middle' / 'epoch_1.pth')
    assert weights(teacher.checkpoint)['backbone.conv1.weight'].shape[0] == 10


@pytest.mark.slow
def test_boosting_draws_difficult_images_more_often(tmp_path, plain):
    out = run('boost.py', plain('plain.py'), '--members', 2, '--work-dir', 'committee',
              cwd=tmp_path)
    assert 'committee.py' in out.stdout
    found = json.loads((tmp_path / 'committee' / 'member1.json').read_text())['weights']
    assert len(found) == 4
    assert sum(found) == pytest.approx(4)
    assert max(found) > min(found) > 0
    config = Config.fromfile(tmp_path / 'committee' / 'member1' / 'plain.py')
    assert config.train_dataloader.sampler.type == 'mmkd.WeightedSampler'
    run('train.py', os.path.join('committee', 'committee.py'), cwd=tmp_path)
    log = next((tmp_path / 'work_dirs' / 'committee').glob('*/*.log')).read_text()
    assert 'loss_cls_dist' in log


@pytest.mark.parametrize(('tool', 'arguments', 'message'), [
    ('train.py', ['--generations', 1], '--generations must be 2 or more'),
    ('train.py', ['--generations', 2, '--teacher', 'x.py'], 'cannot be combined with --teacher'),
    ('train.py', ['--assistant', 'x.py'], 'need --teacher'),
    ('train.py', ['--generations', 2, '--launcher', 'pytorch'], 'not supported with several '
                                                                'processes'),
    ('boost.py', ['--members', 1], '--members must be 2 or more'),
])
def test_mistakes_on_the_command_line(monkeypatch, capsys, tmp_path, plain, tool, arguments,
                                      message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(os.path.join(ROOT, 'tools'))
    monkeypatch.setattr('sys.argv', [tool, plain('plain.py'), *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(tool.removesuffix('.py')).main()
    assert message in f'{capsys.readouterr().err}{stopped.value}'


@pytest.fixture
def chain(monkeypatch):
    monkeypatch.syspath_prepend(os.path.join(ROOT, 'tools'))
    return importlib.import_module('chain')


@pytest.fixture
def chained(chain, monkeypatch, tmp_path, capsys):
    """Run `tools/train.py` in this process, with stages that only save a checkpoint; return the
    started stages and the output.
    """
    started = []

    def train(command):
        started.append(command)
        folder = command[command.index('--work-dir') + 1]
        torch.save(dict(weights=torch.rand(4)), f'{folder}/epoch_1.pth')
        return argparse.Namespace(returncode=0)

    monkeypatch.setattr(chain, 'subprocess', argparse.Namespace(run=train))
    monkeypatch.chdir(tmp_path)

    def call(*words):
        started.clear()
        monkeypatch.setattr('sys.argv', ['train.py', *map(str, words)])
        importlib.import_module('train').main()
        folders = [os.path.basename(one[one.index('--work-dir') + 1]) for one in started]
        return folders, capsys.readouterr().out

    return call


def test_finished_stage_needs_the_same_options(chained, tmp_path, plain, shapes):
    name = plain('plain.py')
    labels = tmp_path / 'labels.json'
    labels.write_text((pathlib.Path(shapes) / 'instances.json').read_text())
    config = Config.fromfile(tmp_path / name)
    config.train_dataloader.dataset.ann_file = str(labels)
    config.dump(str(tmp_path / name))
    stages = [name, '--generations', 2, '--work-dir', 'chain', '--method', 'kd']
    both = ['generation0', 'generation1']
    assert chained(*stages)[0] == both
    student = tmp_path / 'chain' / 'generation1' / 'epoch_1.pth'
    before = student.read_bytes()
    found, said = chained(*stages)
    assert found == []
    assert said.count('finished before') == 2
    # A third generation continues from these.
    assert chained(name, '--generations', 3, *stages[3:])[0] == ['generation2']

    def refused(*words, says):
        with pytest.raises(ValueError, match='use another --work-dir, or train it again by '
                                             '--overwrite') as error:
            chained(*words)
        assert says in str(error.value)
        assert student.read_bytes() == before

    refused(*stages[:-1], 'dist', says='the stage generation1 in chain was trained with other '
            'options (--method: `kd` then, `dist` now)')
    refused(*stages, '--cfg-options', 'train_cfg.max_epochs=2',
            says='the stage generation0 in chain was trained with other options '
            '(train_cfg.max_epochs: nothing then, `2` now)')
    changed = json.loads(labels.read_text())
    changed['annotations'].pop()
    whole = labels.read_text()
    labels.write_text(json.dumps(changed))
    refused(*stages, says='the content of train_dataloader.dataset.ann_file has changed')
    labels.write_text(whole)
    config.optim_wrapper.optimizer.lr = 0.002
    config.dump(str(tmp_path / name))
    refused(*stages, says='the content of config has changed')
    assert Config.fromfile('chain/generation0.py').optim_wrapper.optimizer.lr == 0.001

    # With --overwrite all are trained again, and the old folder is renamed.
    assert chained(*stages, '--overwrite')[0] == both
    assert (tmp_path / 'chain' / 'generation1.old1' / 'epoch_1.pth').read_bytes() == before
    assert Config.fromfile('chain/generation0.py').optim_wrapper.optimizer.lr == 0.002
    assert student.read_bytes() != before


def test_interrupted_stage_resumes_only_with_its_options(chained, tmp_path, plain):
    name = plain('plain.py')
    stages = [name, '--generations', 2, '--work-dir', 'chain']
    chained(*stages)
    (tmp_path / 'chain' / 'generation1' / 'done').unlink()
    with pytest.raises(ValueError, match='generation1 in chain was trained with other options'):
        chained(*stages, '--method', 'dist')
    assert chained(*stages)[0] == ['generation1']
    # The first stage has another checkpoint, so the second one must be trained again.
    torch.save(dict(other=True), tmp_path / 'chain' / 'generation0' / 'epoch_1.pth')
    with pytest.raises(ValueError, match='the content of --teacher-checkpoint has changed'):
        chained(*stages)
    assert chained(*stages, '--overwrite')[0] == ['generation1']


def test_stage_with_unknown_options_is_not_resumed(
        chain, monkeypatch, tmp_path, plain):
    """No training is needed: the message depends on the contents of the folders."""
    monkeypatch.setattr('subprocess.run', lambda *args: pytest.fail('a training was started'))
    monkeypatch.chdir(tmp_path)
    name = plain('plain.py')
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet())['checkpoint']
    args = argparse.Namespace(work_dir='chain', amp=False, auto_scale_lr=False, overwrite=False,
                              launcher='none')
    stage = chain.Stage('1_plain', [name, '--teacher', name, '--teacher-checkpoint', teacher])
    folder = tmp_path / 'chain' / '1_plain'
    folder.mkdir(parents=True)
    save_teacher(folder / 'epoch_1.pth', retinanet())
    with pytest.raises(ValueError, match='other options .the options were not recorded'):
        chain.run_chain(args, [stage])
    chain.write_record(args, stage, [stage])
    assert not chain.misfits(args, stage, [stage])
    save_teacher(tmp_path / 'teacher.pth', retinanet(), seed=2)  # under the same name
    with pytest.raises(ValueError, match='the content of --teacher-checkpoint has changed'):
        chain.run_chain(args, [stage])


def test_weights_of_other_members_are_not_used(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(os.path.join(ROOT, 'tools'))
    boost = importlib.import_module('boost')
    path = str(tmp_path / 'member1.json')
    assert not boost.is_found_by(path, {'member0': 'sha256 1'}, False)
    boost.write_weights(path, torch.tensor([1., 3.]), {'member0': 'sha256 1'})
    assert boost.is_found_by(path, {'member0': 'sha256 1'}, False)
    with pytest.raises(ValueError, match='weights of other members .the content of member0 has'):
        boost.is_found_by(path, {'member0': 'sha256 2'}, False)
    assert not boost.is_found_by(path, {'member0': 'sha256 2'}, True)
    assert len(WeightedSampler(range(2), path)) == 2


@pytest.mark.slow
def test_stage_that_fails_is_named(tmp_path, plain):
    out = run('train.py', plain('plain.py'), '--generations', 2, '--cfg-options',
              'train_dataloader.dataset.ann_file=no/such.json', cwd=tmp_path, check=False)
    assert 'stage generation0 failed' in out.stderr
