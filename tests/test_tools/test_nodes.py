"""Two machines, as two groups of one gloo process each: equal to one machine, and if one dies."""
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
from conftest import detector_config, distiller, retinanet, save_teacher, saved_at
from support.tools import TOOLS

pytestmark = pytest.mark.slow

DEATH = '''
import os, signal
from mmengine.hooks import Hook
from mmkd import HOOKS

@HOOKS.register_module()
class DieOnce(Hook):
    """The process of rank 1 ends once, before epoch 2; with LAUNCHER, its launcher, too."""

    def before_train_epoch(self, runner):
        if runner.epoch == 1 and runner.rank == 1 and not os.path.exists('died'):
            open('died', 'w').close()
            if 'LAUNCHER' in os.environ:
                os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
'''


@pytest.fixture
def folder(shapes, tmp_path):
    """A folder with config.py: four epochs without random augmentation, with a connector, DIST
    over all processes, and a cache of the teacher's outputs, which all processes share."""
    teacher = dict(save_teacher(tmp_path / 'teacher.pth', retinanet(channels=24)),
                   type='mmkd.CachedTeacher', cache='answers')
    config = detector_config(
        shapes, distiller(retinanet(), teacher, dict(type='mmkd.DISTLoss', on='cls', sync=True),
                          dict(type='mmkd.MSELoss', on='neck')), 'run',
        **{'train_cfg.max_epochs': 4, 'train_cfg.val_interval': 4,
           'train_dataloader.batch_size': 1, 'train_dataloader.dataset.pipeline.3.prob': 0.})
    config.env_cfg = dict(dist_cfg=dict(timeout=180))
    config.default_hooks = dict(config.default_hooks, checkpoint=dict(
        type='CheckpointHook', interval=1))
    config.dump(str(tmp_path / 'config.py'))
    (tmp_path / 'death.py').write_text(DEATH)
    (tmp_path / 'dying.py').write_text('''
_base_ = ['./config.py']
custom_imports = dict(imports=['mmkd', 'death'], allow_failed_imports=False)
custom_hooks = [dict(type='mmkd.DieOnce')]
''')
    return tmp_path


def start(folder, command, **variables):
    """Start the launcher of a machine."""
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ['PATH']])
    environment = dict(os.environ, PATH=path, OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore',
                       PYTHONPATH=os.pathsep.join([str(folder), os.environ['PYTHONPATH']]))
    return subprocess.Popen(command, cwd=folder, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, start_new_session=True,
                            env={**environment, **variables})


def ended(launchers):
    """Exit codes and outputs, once all have ended; none is left behind."""
    try:
        outputs = [one.communicate(timeout=200)[0] for one in launchers]
    finally:
        for one in launchers:
            if one.poll() is None:
                os.killpg(one.pid, signal.SIGKILL)
    return [one.returncode for one in launchers], outputs


def free_port():
    with socket.socket() as one:
        one.bind(('127.0.0.1', 0))
        return str(one.getsockname()[1])


def trained(folder, machines, config, *options, **variables):
    """Train with tools/dist_train.sh on machines with two processes in all."""
    port = free_port()
    return ended([start(folder, [
        'bash', os.path.join(TOOLS, 'dist_train.sh'), config, str(2 // machines), *options],
        NNODES=str(machines), NODE_RANK=str(number), PORT=port, **variables)
        for number in range(machines)])


def losses_of(folder):
    path, = folder.glob('*/vis_data/scalars.json')
    lines = map(json.loads, path.read_text().splitlines())
    return [[one['loss'], one['loss_cls_dist'], one['loss_neck_mse']] for one in lines
            if 'loss' in one]


def test_two_machines_train_as_one(folder):
    for machines in (1, 2):
        codes, outputs = trained(folder, machines, 'config.py', '--work-dir', f'run{machines}',
                                 '--cfg-options', f'model.teacher.cache=answers{machines}')
        assert codes == [0] * machines, outputs
        shares = re.findall(r'(\d+)% of \d+ outputs of the teacher were read from', outputs[0])
        # The images of a process are others in each epoch: it reads what the others have written.
        assert shares == ['0', '100', '100', '100']
    assert len(losses_of(folder / 'run1')) == 8
    assert losses_of(folder / 'run1') == losses_of(folder / 'run2')
    one, two = (saved_at(folder / f'run{machines}' / 'epoch_4.pth') for machines in (1, 2))
    torch.testing.assert_close(one['state_dict'], two['state_dict'], rtol=0, atol=0)


def test_a_machine_dies(folder):
    codes, outputs = trained(folder, 2, 'dying.py', LAUNCHER='1')
    assert time.time() - (folder / 'died').stat().st_mtime < 120  # the timeout is 180
    assert codes[0] == 1
    assert codes[1] == 128 + signal.SIGKILL  # of the shell
    line, = (line for line in outputs[0].splitlines() if line.startswith('train.py: '))
    assert line.startswith('train.py: process 0 has lost the connection to another process of '
                           'this run: that process or its machine has ended')
    assert 'Traceback' not in outputs[0]
    assert (folder / 'run' / 'epoch_1.pth').is_file()


def test_elastic_restart_resumes(folder):
    """A process dies in the second epoch. torchrun starts both again, and they resume."""
    port = free_port()
    command = [os.path.join(os.path.dirname(sys.executable), 'torchrun'), '--nnodes=2',
               '--nproc_per_node=1', '--max-restarts=3', '--rdzv_backend=c10d',
               f'--rdzv_endpoint=127.0.0.1:{port}', os.path.join(TOOLS, 'train.py'), 'dying.py',
               '--launcher', 'pytorch', '--resume']
    codes, outputs = ended([start(folder, command) for _ in range(2)])
    assert codes == [0, 0], outputs
    assert (folder / 'died').is_file()
    assert any('resumed epoch: 1, iter: 2' in text for text in outputs)
    assert (folder / 'run' / 'epoch_4.pth').is_file()
