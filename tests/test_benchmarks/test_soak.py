"""A long run keeps no tensors, files or threads, and benchmarks/soak.py detects a leak."""
import os

import pytest
from conftest import detector_config, distiller, retinanet, save_teacher
from support.tools import BENCHMARKS, run_tool

LEAKS = '''
import threading
import time
import torch
import mmkd

kept = []

@mmkd.MODELS.register_module()
class KeepingLoss(mmkd.MSELoss):
    """Keeps a tensor, a file and a thread of every step."""

    def compare(self, student, teacher, weight):
        kept.append((student.detach(), open(__file__)))
        threading.Thread(target=time.sleep, args=(60, ), daemon=True).start()
        return super().compare(student, teacher, weight)
'''


def soak(shapes, tmp_path, entries, imports=()):
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet(width=12, channels=24))
    config = detector_config(shapes, distiller(retinanet(), teacher, *entries),
                             str(tmp_path / 'run'))
    config.custom_imports.imports += imports
    config.dump(str(tmp_path / 'config.py'))
    done = run_tool(os.path.join(BENCHMARKS, 'soak.py'), 'config.py', '--iterations', 50,
                    '--limit', 30, cwd=tmp_path, check=False,
                    env=dict(PYTHONPATH=f'{tmp_path}:{os.environ["PYTHONPATH"]}'))
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize('entries', [[
    dict(type='mmkd.DISTLoss', on='cls'), dict(type='mmkd.MSELoss', on='neck')]])
def test_nothing_grows_with_images_of_changing_sizes(shapes, tmp_path, entries):
    code, text = soak(shapes, tmp_path, entries)
    assert code == 0, text
    assert 'modules still watched: none' in text
    assert 'what grows: nothing' in text


@pytest.mark.slow
def test_leak_is_detected(shapes, tmp_path):
    (tmp_path / 'leaks.py').write_text(LEAKS)
    code, text = soak(shapes, tmp_path, [dict(type='mmkd.KeepingLoss', on='cls')], ['leaks'])
    assert code == 1, text
    assert 'tensors, files, threads' in text
