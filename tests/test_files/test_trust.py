"""No setting that reads a file runs code from it unless the config trusts the file."""
import json
import os
import pickle
import runpy
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import build, detector_config, distiller, retinanet, save_teacher, saved_at, train
from mmengine.runner import Runner
from mmengine.runner.checkpoint import load_checkpoint
from support.tools import ROOT, run_tool

from mmkd.files.checkpoint import read_checkpoint


class Calls:
    """Calls a function when it is unpickled."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


class Builds:
    """Calls a function when the state of the unpickled object is set."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (dict, (), None, None, iter([('key', Calls(os.system, f'touch {self.mark}'))]))


def hostile(kind, mark):
    """A checkpoint that would create the file `mark` when it is unpickled."""
    payload = {
        'os.system': lambda: Calls(os.system, f'touch {mark}'),
        'exec': lambda: Calls(exec, f'open({str(mark)!r}, "w")'),
        'eval': lambda: Calls(eval, f'open({str(mark)!r}, "w")'),
        'subprocess': lambda: Calls(subprocess.check_call, ['touch', str(mark)]),
        'getattr': lambda: Calls(getattr, Calls(__import__, 'os'), 'getcwd'),
        'numpy': lambda: Calls(np.fromfile, __file__),
        'nested': lambda: [dict(deep=(1, [Calls(os.system, f'touch {mark}')]))],
        'items': lambda: Builds(mark),
    }[kind]()
    weights = build(retinanet()).state_dict()
    return dict(meta=dict(payload=payload), state_dict=weights)


KINDS = ['os.system', 'exec', 'eval', 'subprocess', 'getattr', 'numpy', 'nested', 'items']
REFUSED = r'contains more than weights.*trust_checkpoint=True'


def written(tmp_path, kind='os.system', name='hostile.pth'):
    path, mark = tmp_path / name, tmp_path / 'mark'
    torch.save(hostile(kind, mark), path)
    return str(path), mark


@pytest.mark.parametrize('kind', KINDS)
def test_hostile_pickles_do_not_run(tmp_path, kind):
    path, mark = written(tmp_path, kind)
    with pytest.raises(ValueError, match=REFUSED):
        read_checkpoint(path)
    with pytest.raises(ValueError, match=REFUSED):
        load_checkpoint(build(retinanet()), path)
    assert not mark.exists()


def test_bare_pickle_and_renamed_pickle_do_not_run(tmp_path):
    mark = tmp_path / 'mark'
    for name in ('bare.pth', 'weights.safetensors'):
        (tmp_path / name).write_bytes(pickle.dumps(Calls(os.system, f'touch {mark}')))
        with pytest.raises(ValueError, match=name):
            read_checkpoint(str(tmp_path / name))
    assert not mark.exists()


ENTRIES = {
    'teacher': lambda config, path: config.model.update(distiller(retinanet(), dict(
        config=dict(default_scope='mmdet', model=retinanet()), checkpoint=path))),
    'committee': lambda config, path: config.model.update(distiller(retinanet(), dict(
        type='mmkd.Committee', members=[dict(
            config=dict(default_scope='mmdet', model=retinanet()), checkpoint=path)]))),
    'partner': lambda config, path: config.model.update(dict(
        type='mmkd.Distiller', student=retinanet(), companions=dict(other=dict(
            config=dict(default_scope='mmdet', model=retinanet()), checkpoint=path)),
        distill=[dict(type='mmkd.KDLoss', on='cls', between=['student', 'other'])])),
    'load_from': lambda config, path: config.update(load_from=path),
    'resume': lambda config, path: config.update(load_from=path, resume=True),
    'pretrained backbone': lambda config, path: config.model.backbone.update(
        init_cfg=dict(type='Pretrained', checkpoint=path)),
}


@pytest.mark.parametrize('entry', ENTRIES)
def test_no_setting_of_a_config_runs_a_hostile_file(shapes, tmp_path, entry):
    path, mark = written(tmp_path)
    config = detector_config(shapes, retinanet(), str(tmp_path / 'run'))
    if 'model' in ENTRIES[entry].__code__.co_names and entry != 'pretrained backbone':
        config.model = dict()
    ENTRIES[entry](config, path)
    with pytest.raises(ValueError, match=REFUSED):
        Runner.from_cfg(config).train()
    assert not mark.exists()


@pytest.mark.parametrize('address', [
    'torchvision://resnet18', 'open-mmlab://msra/hrnetv2_w18', 'mmcls://vgg11', 'file://'])
@pytest.mark.parametrize('user', [{}, {'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD': '1'}])
def test_no_address_scheme_runs_a_hostile_file(tmp_path, monkeypatch, address, user):
    """The download is a hostile file. Also with the variable that makes torch trust all files."""
    path, mark = written(tmp_path)
    asked = []
    monkeypatch.setattr('mmkd.files.sources.downloaded',
                        lambda url, check: asked.append(url) or path)
    for name, value in user.items():
        monkeypatch.setenv(name, value)
    if address == 'file://':
        address += path
    with pytest.raises(ValueError, match=REFUSED):
        load_checkpoint(build(retinanet()), address)
    assert address.startswith('file://') or asked[0].startswith('http')
    assert not mark.exists()
    assert os.environ.get('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD') == ('1' if user else None)
    assert 'TORCH_FORCE_WEIGHTS_ONLY_LOAD' not in os.environ


@pytest.mark.parametrize('switch', ['1', 'True', 'y'])
def test_torch_can_forbid_trusted_files(tmp_path, monkeypatch, switch):
    path, mark = written(tmp_path)
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', switch)
    with pytest.raises(ValueError, match=(
            r'`.*` contains more than weights, and `trust_checkpoint=True` does not open it while '
            f'TORCH_FORCE_WEIGHTS_ONLY_LOAD={switch} is set in the environment; unset it, or use a '
            'file that contains only weights')):
        read_checkpoint(path, trust=True)
    assert not mark.exists()
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '0')
    read_checkpoint(path, trust=True)
    assert mark.exists()


def test_files_of_other_backends_do_not_run(tmp_path, monkeypatch):
    path, mark = written(tmp_path)

    class Backend:

        def get(self, source):
            with open(path, 'rb') as file:
                return file.read()

    monkeypatch.setattr('mmkd.files.sources.get_file_backend',
                        lambda source, backend_args: Backend())
    for load in (read_checkpoint, lambda source: load_checkpoint(build(retinanet()), source)):
        with pytest.raises(ValueError, match=REFUSED):
            load('s3://bucket/hostile.pth')
    assert not mark.exists()


@pytest.mark.parametrize('entry', [
    'resume', pytest.param('load_from', marks=pytest.mark.slow)])
def test_text_of_a_config_is_not_executed(shapes, tmp_path, entry):
    """MMEngine executes this text on resume. The file contains only text and numbers."""
    config = detector_config(shapes, distiller(retinanet(), save_teacher(
        tmp_path / 'teacher.pth', retinanet())), str(tmp_path / 'run'))
    train(config)
    path, mark = tmp_path / 'run' / 'epoch_1.pth', tmp_path / 'mark'
    saved, text = saved_at(path), f'x = __import__("os").system("touch {mark}")\n'
    saved['meta'].update(config=text, cfg=text)
    saved['message_hub']['runtime_info']['cfg'] = text
    torch.save(saved, path)
    runner, _ = train(config.copy() if entry == 'load_from' else detector_config(
        shapes, config.model, str(tmp_path / 'again'), load_from=str(path), resume=True,
        **{'train_cfg.max_epochs': 2}))
    assert not mark.exists()
    again = saved_at(runner.message_hub.get_info('last_ckpt'))
    # the config of the new run
    assert 'mmkd.Distiller' in again['message_hub']['runtime_info']['cfg']


def test_inferencers_do_not_execute_configs_in_weights(tmp_path):
    from mmengine.config import Config
    from mmengine.runner.checkpoint import _load_checkpoint
    mark = tmp_path / 'mark'
    text = f'x = __import__("os").system("touch {mark}")\n'
    saved = dict(meta=dict(cfg=text), state_dict=build(retinanet()).state_dict(),
                 message_hub=dict(runtime_info=dict(cfg=text)))
    torch.save(saved, tmp_path / 'weights.pth')
    found = _load_checkpoint(str(tmp_path / 'weights.pth'), map_location='cpu')
    for given in (found['meta']['cfg'], found['message_hub']['runtime_info']['cfg']):
        with pytest.raises(ValueError, match='is not executed; give the config itself'):
            Config.fromstring(given, file_format='.py')
    assert not mark.exists()


@pytest.mark.slow
def test_paths_in_a_checkpoint_are_not_removed(shapes, tmp_path):
    config = detector_config(shapes, distiller(retinanet(), save_teacher(
        tmp_path / 'teacher.pth', retinanet())), str(tmp_path / 'run'), **{
            'default_hooks.checkpoint.save_best': 'coco/bbox_mAP',
            'default_hooks.checkpoint.rule': 'greater'})
    train(config)
    victim, path = tmp_path / 'victim', tmp_path / 'run' / 'epoch_1.pth'
    for place, name in ((victim, 'best_of_all.pth'), (victim, 'thesis.txt')):
        os.makedirs(place, exist_ok=True)
        (place / name).write_text('years of work')
        saved = saved_at(path)
        saved['message_hub']['runtime_info'].update(best_ckpt=str(place / name), best_score=-1.)
        torch.save(saved, tmp_path / 'planted.pth')
        train(detector_config(shapes, config.model, str(tmp_path / 'again'), resume=True,
                              load_from=str(tmp_path / 'planted.pth'), **{
                                  'train_cfg.max_epochs': 2,
                                  'default_hooks.checkpoint.save_best': 'coco/bbox_mAP',
                                  'default_hooks.checkpoint.rule': 'greater'}))
        assert (place / name).read_text() == 'years of work'


def test_trusted_files_are_read(shapes, tmp_path):
    path, mark = written(tmp_path)
    config = detector_config(shapes, retinanet(), str(tmp_path / 'run'), load_from=path,
                             trust_checkpoint=True)
    train(config)
    assert mark.exists()


TOOLS = {
    'train.py': lambda config, path: [config, '--resume', path],
    'test.py': lambda config, path: [config, path],
    'publish_student.py': lambda config, path: [config, path],
    'inspect_pair.py': lambda config, path: [config, config, '--teacher-checkpoint', path],
}


@pytest.mark.parametrize('tool', TOOLS)
def test_no_tool_runs_a_hostile_file(shapes, tmp_path, monkeypatch, tool):
    path, mark = written(tmp_path)
    detector_config(shapes, retinanet(), str(tmp_path / 'run')).dump(str(tmp_path / 'config.py'))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(os.path.join(ROOT, 'tools'))
    monkeypatch.setattr(sys, 'argv', [tool, *TOOLS[tool]('config.py', path)])
    with pytest.raises((ValueError, SystemExit), match='contains more than weights'):
        runpy.run_path(os.path.join(ROOT, 'tools', tool), run_name='__main__')
    assert not mark.exists()


@pytest.mark.slow
def test_safetensors_are_read_wherever_a_checkpoint_is(shapes, tmp_path):
    from safetensors.torch import save_file
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet(width=12))
    saved = torch.load(teacher['checkpoint'], weights_only=False)
    path = str(tmp_path / 'teacher.safetensors')
    save_file(saved['state_dict'], path, dict(meta=json.dumps(saved['meta'], default=list)))
    start = str(tmp_path / 'start.safetensors')
    save_file(build(retinanet()).state_dict(), start)
    losses = []
    for checkpoint in (teacher['checkpoint'], path):
        _, one = train(detector_config(
            shapes, distiller(retinanet(), dict(teacher, checkpoint=checkpoint)),
            str(tmp_path / f'run{len(losses)}'), load_from=start))
        losses.append(one)
    assert losses[0] == losses[1]
    content = (tmp_path / 'teacher.safetensors').read_bytes()
    (tmp_path / 'cut.safetensors').write_bytes(content[:1000])
    with pytest.raises(ValueError, match=r'cut.safetensors` is not a readable checkpoint'):
        read_checkpoint(str(tmp_path / 'cut.safetensors'))


@pytest.mark.slow
def test_published_checkpoint_names_its_teacher_without_paths(shapes, tmp_path):
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet(width=12))
    config = detector_config(shapes, distiller(retinanet(), teacher), str(tmp_path / 'run'))
    train(config)
    config.dump(str(tmp_path / 'config.py'))
    saved = saved_at(tmp_path / 'run' / 'epoch_1.pth')
    about = saved['meta']['mmkd']
    assert about['networks']['teacher']['checkpoint'] == 'teacher.pth'
    assert len(about['networks']['teacher']['checkpoint_hash']) == 64
    assert about['distill'][0]['loss'] == 'DISTLoss'
    for kind in ('pth', 'safetensors'):
        done = run_tool('publish_student.py', 'config.py', 'run/epoch_1.pth', '--out', 'shipped',
                        '--format', kind, '--name', 'student', cwd=tmp_path)
        assert 'the predictions of both are bitwise equal' in done.stdout, done.stderr
        path, = (tmp_path / 'shipped').glob(f'student-????????.{kind}')
        found = read_checkpoint(str(path))
        build(retinanet()).load_state_dict(found['state_dict'], strict=True)
        assert set(found) == {'meta', 'state_dict'}
        assert found['meta']['mmkd'] == about
        assert str(tmp_path) not in str(found['meta'])
        for name, tensor in saved['state_dict'].items():
            assert torch.equal(found['state_dict'][name], tensor)
