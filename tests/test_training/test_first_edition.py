"""Files of the first edition of mmkd can be read.

The last commit of that edition is checked out and writes the checkpoints and caches.
"""
import copy
import json
import os
import pickle
import shutil
import subprocess
from pathlib import Path

import mmdet
import pytest
from conftest import QUICK, detector_config, distiller, retinanet, save_teacher, saved_at, train
from support.extensions import same_to_the_bit
from support.tools import ROOT, run_tool

from mmkd.points.recorder import READING

COMMIT = 'a925a7ca858136d911111aa37a7361713144ac56'
"""The last commit before mmkd was split into its present packages."""

RUN = '''
import json
import pickle
import sys

old, configs, results = sys.argv[1:]
# An editable install of mmkd would lend this edition's modules to the old one.
sys.meta_path[:] = [one for one in sys.meta_path
                    if 'editable' not in getattr(one, '__module__', type(one).__module__)]

from conftest import train
from mmengine.config import Config

with open(configs, 'rb') as file:
    losses = [train(Config(config))[1] for config in pickle.load(file)]
files = {name: module.__file__ for name, module in sys.modules.items()
         if name.split('.')[0] == 'mmkd'}
assert 'mmkd.distillation' in files and all(path.startswith(old) for path in files.values()), files
with open(results, 'w') as file:
    json.dump(losses, file)
'''


def git(*arguments):
    """Run git without hooks, in the repository of this file."""
    env = {name: value for name, value in os.environ.items() if not name.startswith('GIT_')}
    return subprocess.run(['git', '-c', f'core.hooksPath={os.devnull}', *map(str, arguments)],
                          cwd=ROOT, env=env, capture_output=True, text=True)


@pytest.fixture(scope='module')
def old(tmp_path_factory):
    """A folder with the first edition of mmkd."""
    if shutil.which('git') is None or git('cat-file', '-e', COMMIT + '^{commit}').returncode:
        pytest.skip('the history of mmkd is not here')
    folder = tmp_path_factory.mktemp('old') / 'mmkd'
    added = git('worktree', 'add', '--detach', folder, COMMIT)
    try:
        assert added.returncode == 0, added.stderr
        yield str(folder)
    finally:
        git('worktree', 'remove', '--force', folder)


def train_by(old, folder, *configs):
    """Train several configs with the first edition; return the losses of every iteration."""
    script, given, results = (Path(folder) / name for name in ('run.py', 'given', 'results'))
    script.write_text(RUN)
    given.write_bytes(pickle.dumps([config.to_dict() for config in configs]))
    path = os.pathsep.join([old, os.path.join(old, 'tests'), QUICK])
    run_tool(str(script), old, given, results, cwd=folder, env=dict(PYTHONPATH=path))
    return json.loads(results.read_text())


HINTS = [  # ten connectors from 16 to 24 channels that learn different weights
    dict(type='mmkd.MSELoss', on='neck', name='loss_strong', loss_weight=2.),
    dict(type='mmkd.MSELoss', on='neck', name='loss_faint', loss_weight=0.3)]


def config_of(shapes, teacher, work_dir, hints=HINTS, **changes):
    """A student with two hints of equal shapes, a partner, and a mean teacher."""
    model = dict(
        distiller(retinanet(), teacher, *hints,
                  dict(type='mmkd.KDLoss', on='cls', between=['student', 'partner']),
                  dict(type='mmkd.DISTLoss', on=dict(student='cls', teacher='mean:cls'))),
        companions=dict(
            partner=dict(type='mmkd.Partner', config=dict(model=retinanet(width=12))),
            mean=dict(type='mmkd.MeanTeacher', momentum=0.2, warmup=2)))
    config = detector_config(shapes, copy.deepcopy(model), str(work_dir), **changes)
    config.optim_wrapper.optimizer.update(momentum=0.9, weight_decay=0.01)
    config.train_cfg.val_interval = 100
    return config


@pytest.mark.slow
def test_checkpoint_of_the_first_edition_is_resumed(shapes, tmp_path, old):
    """As the first edition would continue; also with the entries in another order."""
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet(channels=24))
    first = tmp_path / 'first' / 'epoch_1.pth'
    go_on = {'resume': True, 'load_from': str(first), 'train_cfg.max_epochs': 2}
    _, expected = train_by(old, tmp_path, config_of(shapes, teacher, tmp_path / 'first'),
                           config_of(shapes, teacher, tmp_path / 'itself', **go_on))
    assert len(expected) == 2
    before, after = saved_at(first), saved_at(tmp_path / 'itself' / 'epoch_2.pth')
    assert set(before['mmkd']) == {'connectors', 'networks'}
    assert set(before['mmkd']['networks']) == {'mean', 'partner'}
    momenta = [state['momentum_buffer'] for state in before['optimizer']['state'].values()]
    same = [one for one in momenta if one.shape == (24, 16, 1, 1)]
    assert len(same) == 10
    assert len({one.sum().item() for one in same}) == 10
    for name, hints in (('same', HINTS), ('other', HINTS[::-1])):
        _, losses = train(config_of(shapes, teacher, tmp_path / name, hints, **go_on))
        assert losses == expected
        found = saved_at(tmp_path / name / 'epoch_2.pth')
        for key in ('state_dict', 'mmkd'):
            same_to_the_bit(found[key], after[key])
        same_to_the_bit(found['optimizer']['state'], after['optimizer']['state'])


@pytest.mark.slow
def test_cache_of_the_first_edition_is_refused(shapes, tmp_path, old):
    """Both editions have the same version number, but read some points differently."""
    teacher = dict(save_teacher(tmp_path / 'teacher.pth', retinanet(width=12)),
                   type='mmkd.CachedTeacher', cache=str(tmp_path / 'cache'))

    def caching(name):
        model = distiller(retinanet(), teacher)
        return detector_config(shapes, model, str(tmp_path / name), val_cfg=None,
                               val_dataloader=None, val_evaluator=None)

    train_by(old, tmp_path, caching('old'))
    before = {path.name: path.read_bytes() for path in (tmp_path / 'cache').iterdir()}
    assert any(name.endswith('.answers') for name in before)
    with pytest.raises(ValueError, match='another version of the code: reading none') as info:
        train(caching('new'))
    assert str(info.value) == (
        f'`{tmp_path / "cache"}` contains outputs written by another version of the code: reading '
        f'none, now {READING}; family none, now DenseHead; package none, now mmdet '
        f'{mmdet.__version__}; use another folder, or remove this one')
    assert before == {path.name: path.read_bytes() for path in (tmp_path / 'cache').iterdir()}
    shutil.rmtree(tmp_path / 'cache')
    _, losses = train(caching('anew'))
    assert len(losses) == 2
