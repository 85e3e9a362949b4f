"""A process whose partner has ended, or does not answer, ends with one line."""
import importlib
import os
import signal
import subprocess
import sys
from datetime import timedelta

import pytest
from mmengine.config import Config
from support.tools import TOOLS

WORK = '''
import datetime, os, signal, sys
import torch
import command

command.PATIENCE_WHEN_LOST = 0.1

def main():
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{sys.argv[1]}', timeout=datetime.timedelta(seconds=10),
        rank=int(os.environ['RANK']), world_size=2)
    for step in range(3):
        if step == 2 and os.environ['RANK'] == '1':
            os.kill(os.getpid(), getattr(signal, sys.argv[2]))
        torch.distributed.all_reduce(torch.ones(1))

command.run(main, 'run the same command with --resume')
'''


@pytest.mark.slow
@pytest.mark.parametrize('how', ['SIGKILL', 'SIGSTOP'])
def test_the_rest_says_that_a_process_has_gone(tmp_path, how):
    (tmp_path / 'train.py').write_text(WORK)
    both = [subprocess.Popen(
        [sys.executable, '-W', 'ignore', str(tmp_path / 'train.py'), str(tmp_path / 'meeting'),
         how],
        env=dict(os.environ, RANK=str(rank), LOCAL_RANK='0', PYTHONPATH=TOOLS,
                 OMP_NUM_THREADS='1'), stderr=subprocess.PIPE, text=True) for rank in range(2)]
    try:
        said = both[0].communicate(timeout=240)[1]
    finally:
        for one in both:
            one.send_signal(signal.SIGKILL)
            one.communicate()
    assert both[0].returncode == 1
    line, = (line for line in said.splitlines() if line.startswith('train.py: '))
    assert 'process 0 has lost the connection to another process of this run' in line
    assert line.endswith('see what it has printed, and then run the same command with --resume')
    assert 'Traceback' not in said


@pytest.fixture
def tool(monkeypatch):
    """A module of the tools."""
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module


def test_other_errors_and_single_processes_keep_their_traceback(tool, monkeypatch):
    command = tool('command')
    monkeypatch.setattr(command, 'PATIENCE_WHEN_LOST', 0.)
    lost = RuntimeError('[pair.cc:534] Connection closed by peer [127.0.0.1]:2384')
    monkeypatch.delenv('RANK', raising=False)
    assert command.lost_process(lost) is None
    monkeypatch.setenv('RANK', '3')
    assert 'process 3 has lost' in command.lost_process(lost)
    assert '(Connection closed by peer [127.0.0.1]:2384)' in command.lost_process(RuntimeError(
        f'{lost}. This means that the remote process has failed. Check its logs.'))
    assert command.lost_process(RuntimeError('size mismatch')) is None
    assert command.lost_process(ValueError('Connection closed by peer')) is None


def test_timeout_of_a_group(tool):
    timeout_of = tool('group').timeout_of
    assert timeout_of(Config(dict())) is None
    assert timeout_of(Config(dict(env_cfg=dict(dist_cfg=dict(backend='nccl'))))) is None
    assert timeout_of(Config(dict(env_cfg=dict(dist_cfg=dict(timeout=20))))) == timedelta(0, 20)
    for wrong in (0, -1, '20', True):
        with pytest.raises(ValueError, match='`env_cfg.dist_cfg.timeout` must be a number of sec'):
            timeout_of(Config(dict(env_cfg=dict(dist_cfg=dict(timeout=wrong)))))
