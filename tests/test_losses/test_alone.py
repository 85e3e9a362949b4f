"""The losses require only torch."""
import os
import subprocess
import sys

import pytest

ALONE = '''
import importlib.metadata
import os
import sys
import time
import warnings

import torch


def version(name, known=importlib.metadata.version):
    if 'mmengine' in name:
        raise importlib.metadata.PackageNotFoundError(name)
    return known(name)


importlib.metadata.version = version
for name in ('mmengine', 'mmcv', 'mmdet', 'mmseg', 'triton'):
    sys.modules[name] = None
before = (torch.load, list(warnings.filters), sys.path[:], torch.get_default_dtype(),
          torch.random.get_rng_state().tolist(), dict(os.environ))
began = time.process_time()
import mmkd.losses
seconds = time.process_time() - began
assert before == (torch.load, list(warnings.filters), sys.path[:], torch.get_default_dtype(),
                  torch.random.get_rng_state().tolist(), dict(os.environ))
from mmkd import DISTLoss
from mmkd.losses import CWDLoss, KDLoss, LogitLoss, MSELoss

torch.manual_seed(0)
student, target = torch.nn.Conv2d(3, 4, 1), torch.randn(2, 4, 3, 3)
images = torch.randn(2, 3, 3, 3)
for loss in (DISTLoss(), KDLoss(), CWDLoss(), MSELoss()):
    loss(student(images), target).backward()
assert 'torch._dynamo' not in sys.modules  # the compiler; an optimizer of torch imports it
for loss in (DISTLoss(), KDLoss(), CWDLoss(), MSELoss()):
    values = []
    optimizer = torch.optim.SGD(student.parameters(), 0.1)
    for step in range(5):
        value = loss(student(images), target)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < values[0], (loss, values)


@mmkd.losses.LOSSES.register
class OwnLoss(LogitLoss):

    def compare_rows(self, student, teacher, weight):
        return (student - teacher).square().mean()


assert OwnLoss()(target, target) == 0
try:
    mmkd.Distiller
except ImportError as error:
    assert 'mmengine is not installed; `pip install' in str(error), error
else:
    raise AssertionError('a Distiller without MMEngine')
print(seconds)
'''


def test_losses_without_mmengine(tmp_path):
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', ALONE], capture_output=True,
                          text=True, cwd=tmp_path, env=dict(os.environ, PYTHONPATH=os.pathsep.join(
                              path for path in sys.path if 'quick' not in path)))
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1


def test_mmengine_knows_what_is_registered_later():
    from mmkd.losses import LOSSES, MSELoss
    from mmkd.registry import MODELS
    for _ in range(2):  # defining the class again replaces it
        cls = LOSSES.register(type('LaterLoss', (MSELoss, ), {}))
        assert MODELS.get('mmkd.LaterLoss') is cls is LOSSES.classes['LaterLoss']
    del MODELS.module_dict['LaterLoss'], LOSSES.classes['LaterLoss']


def test_one_name_is_one_class():
    from mmkd.losses import LOSSES, MSELoss
    from mmkd.registry import MODELS
    taken = MODELS.get('mmkd.MeanTeacher')
    for _ in range(2):
        with pytest.raises(ValueError, match='`MeanTeacher` of `.*` cannot be registered, because '
                           '`mmkd.networks.mean` has registered a class with the same name; rename '
                           'it'):
            LOSSES.register(type('MeanTeacher', (MSELoss, ), {}))
    assert MODELS.get('mmkd.MeanTeacher') is taken
    assert 'MeanTeacher' not in LOSSES.classes
    with pytest.raises(TypeError, match='only a class can be registered'):
        LOSSES.register(lambda x: x)


def test_a_class_may_be_registered_both_ways():
    from mmkd.losses import LOSSES, MSELoss
    from mmkd.registry import MODELS
    cls = type('TwiceLoss', (MSELoss, ), {})
    assert LOSSES.register(MODELS.register_module(module=cls)) is cls
    del MODELS.module_dict['TwiceLoss'], LOSSES.classes['TwiceLoss']
