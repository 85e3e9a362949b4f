"""benchmarks/gpu.sh and its parts, as far as a CPU goes."""
import json
import os
import shutil
import stat
import subprocess
import sys

import pytest
import torch
from support.tools import BENCHMARKS, ROOT

GPU = os.path.join(BENCHMARKS, 'gpu')
FAKE = '''#!/bin/sh
case "$*" in
*machine.py*) echo a GPU;;
*right.py*) echo the kernels are right;;
*benchmark.py*)
    while [ "$1" != --work-dir ]; do shift; done
    echo '| half of the losses |' > $2/benchmark.md; echo '{"losses": 1}' > $2/benchmark.json
    exec sleep 60;;
*) echo no GPU >&2; exit 3;;
esac
'''


@pytest.mark.slow
def test_what_was_measured_is_kept_if_a_section_does_not_end(tmp_path):
    """`right` ends, `waits` fails, and `losses` is cut off by the limit."""
    script = tmp_path / 'benchmarks' / 'gpu.sh'  # in a folder without what prepare.sh makes
    script.parent.mkdir()
    shutil.copy(os.path.join(BENCHMARKS, 'gpu.sh'), script)
    python = tmp_path / 'python'
    python.write_text(FAKE)
    python.chmod(python.stat().st_mode | stat.S_IXUSR)

    def call(*sections, limit=21):
        return subprocess.run(
            ['bash', str(script), '--out', str(tmp_path / 'out'), '--limit',
             str(limit), *sections], capture_output=True, text=True, env=dict(
                 os.environ, PYTHON=str(python), MMKD_GPU_WORK=str(tmp_path / 'work'))).stdout

    said = call('right', 'waits', 'losses', 'retinanet')
    found = (tmp_path / 'out' / 'results.md').read_text()
    assert found.startswith('a GPU\n## right\n\nthe kernels are right\n')
    assert '## waits, incomplete (exit 3)' in found
    assert 'no GPU' in found
    assert '## losses, incomplete (exit 124)\n\n| half of the losses |' in found
    assert 'retinanet: no time left' in said
    with open(tmp_path / 'out' / 'losses.json') as file:
        assert json.load(file) == dict(losses=1)
    assert not (tmp_path / 'work').exists()
    assert 'right: done before' in call('right', 'waits')
    assert 'no section rihgt' in (call('rihgt'), (tmp_path / 'out' / 'results.md').read_text())[1]


def run_part(name, before='', size=(64, 128)):
    code = f'''
import sys
sys.path.insert(0, {GPU!r})
sys.argv = ['{name}.py', '--device', 'cpu']
import parts
parts.batch_of.__defaults__ = (*{size}, 2)
{before}
import {name}
{name}.main()
'''
    return subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True,
                          text=True, cwd=ROOT)


def rows(text):
    return [[cell.strip() for cell in line.strip('| ').split('|')] for line in text.splitlines()
            if line.startswith('| ')][1:]


@pytest.mark.slow
def test_losses_agree_with_float64():
    done = run_part('right')
    assert done.returncode == 0, done.stderr
    assert len(rows(done.stdout)) == 6 * 3


@pytest.mark.slow
def test_a_wrong_loss_is_found():
    done = run_part('right', before='''
import mmkd.losses.kd as kd
exact = kd.KDLoss.forward
kd.KDLoss.forward = lambda self, *args, **kwargs: 1.001 * exact(self, *args, **kwargs)
''')
    assert done.returncode
    assert 'beyond the limit: KD, sigmoid torch.float32 value 1.0e-03' in done.stderr


@pytest.mark.slow
def test_terms_in_bfloat16_are_those_of_float32():
    done = run_part('amp', size=(256, 512))
    assert done.returncode == 0, done.stderr
    assert {row[0] for row in rows(done.stdout)} == {'retinanet', 'pspnet'}
    assert all(0 < float(row[3]) < 0.05 for row in rows(done.stdout))


@pytest.mark.slow
def test_gradients_in_a_group_of_one_process():
    done = run_part('nccl')
    assert done.returncode == 0, done.stderr
    assert '30 of them of side modules' in done.stdout


@pytest.mark.slow
def test_a_wait_of_mmkd_is_named():
    """Without a GPU nothing waits, so a warning stands for a wait in the loss."""
    quiet = '''
import torch
torch.cuda.synchronize = lambda *_: None
torch.cuda.set_sync_debug_mode = lambda mode: None
'''
    done = run_part('waits', before=quiet)
    assert done.returncode == 0, done.stderr
    assert [row[-1] for row in rows(done.stdout)] == ['0'] * 5
    done = run_part('waits', before=quiet + '''
import warnings
import waits
waits.CASES = waits.CASES[:1]
import mmkd.losses.dist
from mmkd.losses import DISTLoss
place = mmkd.losses.dist.__file__
exact = DISTLoss.forward
code = compile("""
def forward(self, *args, **kwargs):
    warnings.warn('called a synchronizing CUDA operation')
    return exact(self, *args, **kwargs)
""", place, 'exec')
exec(code)
DISTLoss.forward = forward
''')
    assert 'mmkd waits for the GPU' in done.stderr
    assert 'at losses/dist.py:3' in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason='for machines without a GPU')
def test_a_run_is_ended_with_its_section(tmp_path):
    """`timeout` of gpu.sh ends train.py; its trainings have their own process groups."""
    code = f'''
import sys
sys.path.insert(0, {GPU!r})
import signal, subprocess, train
signal.signal(signal.SIGTERM, train.stop)
train.RUNNING.append(subprocess.Popen(['sleep', '60'], start_new_session=True))
print(train.RUNNING[0].pid, flush=True)
train.RUNNING[0].wait()
'''
    with subprocess.Popen([sys.executable, '-W', 'ignore', '-c', code], stdout=subprocess.PIPE,
                          text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.terminate()
        assert process.wait(30) == 1
    assert not is_running(child)


def is_running(pid):
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rsplit(')', 1)[1].split()[0] != 'Z'
    except FileNotFoundError:
        return False
