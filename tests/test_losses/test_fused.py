"""GPU kernels compared with the formulas, and the fallback when they fail.

Triton's interpreter runs the kernels on a CPU. It is slow, so the logits are small, but they have
more positions and classes than one program processes.
"""
import os
import subprocess
import sys

import pytest
import torch

from mmkd.losses.fast import closed_form, fused

INTERPRETED = '''
import torch
from mmkd import DISTLoss, KDLoss
from mmkd.losses import kd
from mmkd.losses.fast import closed_form, fused
from mmkd.losses import LogitLoss

CASES = [((2, 40, 5, 7), 'some'), ((37, 9), None), ((1, 70, 5, 7), 'mask'), ((2, 33, 2, 2), 'none'),
         ((2, 1, 3, 3), None), ((2, 2, 3, 3), 'some'), ((1, 5, 1, 1), None)]

fused.fits = lambda *tensors: True
torch.manual_seed(0)
for use_sigmoid in (True, False):
    for module in (closed_form, kd):
        assert module.is_believed(torch.device('cpu'), use_sigmoid, not use_sigmoid)
    for loss in (DISTLoss(1.3, 0.7, tau=2., use_sigmoid=use_sigmoid),
                 KDLoss(tau=3., use_sigmoid=use_sigmoid)):
        for shape, kind in CASES:
            student, teacher = torch.randn(shape) * 3, torch.randn(shape) * 3
            weight = torch.rand(shape[0], *shape[2:])
            weight = dict(some=weight, mask=(weight > 0.5).float(), none=weight * 0).get(kind)
            one, other = student.clone().requires_grad_(), student.double().requires_grad_()
            value = loss(one, teacher, weight)
            exact = LogitLoss.compare(loss, other, teacher.double(),
                                      None if weight is None else weight.double())
            value.backward()
            exact.backward()
            torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(one.grad.double(), other.grad, rtol=1e-4, atol=1e-7)
'''

CHANNELS = '''
import torch
from mmkd import CWDLoss
from mmkd.losses import cwd
from mmkd.losses.fast import channelwise, fused

CASES = [((2, 3, 10, 13), 'some'), ((1, 5, 7, 3), None), ((3, 2, 8, 8), 'mask'),
         ((2, 2, 3, 3), 'none'), ((2, 1, 16, 4), 'some'), ((2, 4, 1, 1), None)]

fused.fits = lambda student, *rest: student.dtype == torch.float32
for has_weight in (False, True):
    assert cwd.is_believed(torch.device('cpu'), has_weight)
channelwise.SPAN, channelwise.BLOCK = 64, 16  # a channel has several spans, of several blocks
torch.manual_seed(0)
for tau in (1., 3.):
    for shape, kind in CASES:
        student, teacher = torch.randn(shape) * 3, torch.randn(shape) * 3
        weight = torch.rand(shape[0], *shape[2:])
        weight = dict(some=weight, mask=(weight > 0.5).float(), none=weight * 0).get(kind)
        if kind == 'mask':  # an image that is left out, and a span without any position
            weight[0], weight[1].view(-1)[:64] = 0, 0
            student[:, :, 0, 0] = torch.where(weight[:, None, 0, 0] > 0, 1., float('nan'))
        one, other = student.clone().requires_grad_(), student.double().requires_grad_()
        value = CWDLoss(tau)(one, teacher, weight)
        exact = CWDLoss(tau)(other, teacher.double(), None if weight is None else weight.double())
        value.backward()
        exact.backward()
        torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(one.grad.double(), other.grad, rtol=1e-4, atol=1e-7)
        assert CWDLoss(tau)(teacher, teacher, weight) == 0
'''


@pytest.mark.slow
@pytest.mark.parametrize('code', [INTERPRETED, CHANNELS], ids=['logits', 'channels'])
def test_kernels_equal_the_formula(code):
    pytest.importorskip('triton')
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code],
                          env=dict(os.environ, TRITON_INTERPRET='1'), capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr


def test_merge_all_equals_repeated_merges():
    generator = torch.Generator().manual_seed(0)
    samples = [torch.randn(2, count, 3, generator=generator).double() + 5 for count in (4, 1, 7)]
    sets, total, seen = [], torch.zeros(5, 3, dtype=torch.float64), 0.
    for s, t in samples:
        ds, dt = s - s.mean(0), t - t.mean(0)
        sets.append(torch.stack([s.mean(0), t.mean(0), (ds * ds).sum(0), (dt * dt).sum(0),
                                 (ds * dt).sum(0)]))
        seen = closed_form.merge(total, seen, sets[-1], float(len(s)))
    merged, count = fused.merge_all(torch.stack(sets), torch.tensor([4., 1., 7.]))
    assert count == seen == 12
    torch.testing.assert_close(merged, total)
    merged, count = fused.merge_all(torch.stack(sets), torch.zeros(3))
    assert count == 0
    assert merged.isfinite().all()


def test_kernels_are_not_used_on_a_cpu_or_for_float64():
    assert not fused.fits(torch.zeros(1))


@pytest.mark.parametrize('failing', ['wrong', 'broken'])
def test_kernels_that_fail_are_left_out_with_a_warning(monkeypatch, failing):
    said = []
    monkeypatch.setattr(fused, 'warn', said.append)

    def kernel():
        if failing == 'broken':
            raise RuntimeError('no compiler\nhere')
        return [torch.ones(2)]

    assert not fused.agree('KD', lambda: [torch.zeros(2)], kernel)
    assert fused.agree('KD', lambda: [torch.zeros(2)], lambda: [torch.zeros(2)])
    text, = said
    assert text.startswith('KD runs without its fused kernels, which failed: ')
    assert ('RuntimeError: no compiler' in text) == (failing == 'broken')
