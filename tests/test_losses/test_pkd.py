"""PKDLoss compared with standardised features, the authors' numbers, and claims of its paper."""
import numpy as np
import pytest
import torch
from conftest import retinanet, two_stage
from mmengine.config import Config
from support.authors import cases

from mmkd import PKDLoss
from mmkd.inspection import entries_of, inspect_pair
from mmkd.losses.fast.pieces import PIECE


def by_loops(student, teacher):
    """The definition, one channel at a time."""
    total = 0.
    channels = student.shape[1]
    for c in range(channels):
        sides = []
        for side in (student, teacher):
            values = [float(v) for image in side[:, c] for v in image.flatten()]
            mean = sum(values) / len(values)
            deviation = (sum((v - mean)**2 for v in values) / (len(values) - 1))**0.5
            sides.append([(v - mean) / (deviation + 1e-6) for v in values])
        total += sum((a - b)**2 for a, b in zip(*sides)) / len(sides[0]) / 2
    return total / channels


def by_autograd(student, teacher):
    """The definition, differentiated by autograd."""
    def standardized(x):
        x = x.transpose(0, 1).flatten(1)
        return (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1e-6)
    return torch.nn.functional.mse_loss(standardized(student), standardized(teacher)) / 2


def drawn(*shape, offset=0., scale=1., dtype=torch.float64):
    rng = torch.Generator().manual_seed(len(shape))
    student, teacher = (torch.randn(shape, generator=rng, dtype=dtype) for _ in range(2))
    return (offset + scale * student).requires_grad_(), teacher - 3


@pytest.mark.parametrize('shape', [(2, 3, 4, 5), (1, 2, 3, 1), (5, 4), (3, 2, 6)])
def test_it_is_the_definition(shape):
    student, teacher = drawn(*shape)
    assert PKDLoss(0.7)(student, teacher).item() == pytest.approx(
        0.7 * by_loops(student, teacher), rel=1e-9)


@pytest.mark.parametrize(('offset', 'scale'), [(0., 1.), (1e3, 1.), (0., 1e-5), (-2., 1e4)])
def test_closed_form_has_the_gradient_of_the_definition(offset, scale):
    student, teacher = drawn(2, 3, 4, 5, offset=offset, scale=scale)
    found, expected = (torch.autograd.grad(loss(student, teacher), student)[0]
                       for loss in (PKDLoss(), by_autograd))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_constant_channels(dtype):
    """Constant channels of the student, the teacher, or both have finite gradients."""
    student, teacher = (side.detach().to(dtype) for side in drawn(2, 4, 3, 3))
    student[:, :2], teacher[:, 1:3] = 0.5, 0.25
    student.requires_grad_()
    values = [loss(student, teacher) for loss in (PKDLoss(), by_autograd)]
    torch.testing.assert_close(*values)
    found, expected = (torch.autograd.grad(value, student)[0] for value in values)
    assert found.isfinite().all()
    torch.testing.assert_close(found[:, 2:], expected[:, 2:])
    assert not found[:, 1].any()


def test_gradient_is_the_derivative_in_chunks(monkeypatch):
    """An image has more than one chunk of channels."""
    monkeypatch.setitem(PIECE, 'cpu', 25)
    student, teacher = drawn(2, 5, 3, 4)
    assert torch.autograd.gradcheck(lambda x: PKDLoss()(x, teacher), student)
    assert PKDLoss()(student, teacher).item() == pytest.approx(by_loops(student, teacher))


def test_it_is_one_minus_the_correlation():
    student, teacher = drawn(3, 4, 5, 6)
    n = 3 * 5 * 6
    rho = [np.corrcoef(*(side.detach()[:, c].flatten().numpy() for side in (student, teacher)))[
        0, 1] for c in range(4)]
    assert PKDLoss()(student, teacher).item() == pytest.approx(
        np.mean([(1 - one) * (n - 1) / n for one in rho]), rel=1e-5)


def test_scale_and_offset_of_a_channel_do_not_matter():
    student, teacher = drawn(2, 3, 4, 5)
    scale, offset = (torch.tensor(one).double().view(3, 1, 1) for one in ([2, 30, .1], [5, -7, 0]))
    plain = PKDLoss()(student, teacher)
    torch.testing.assert_close(PKDLoss()(student * scale + offset, teacher), plain, rtol=1e-4,
                               atol=0)
    torch.testing.assert_close(PKDLoss()(student, teacher * scale + offset), plain, rtol=1e-4,
                               atol=0)
    assert PKDLoss()(teacher * scale + offset, teacher).item() == pytest.approx(0, abs=1e-8)
    assert PKDLoss()(-teacher, teacher).item() == pytest.approx(2 * 39 / 40, rel=1e-5)


@pytest.mark.parametrize(('settings', 'inputs', 'outputs'), cases('pkd'))
def test_numbers_of_the_authors(settings, inputs, outputs):
    student = inputs['student'].requires_grad_()
    value = PKDLoss(**settings)(student, inputs['teacher'])
    # The numbers have 12 digits for float64, 7 for float32.
    is_double = student.dtype == torch.float64
    tight = dict(rtol=1e-10, atol=1e-12) if is_double else dict(rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(value, outputs['value'], **tight)
    torch.testing.assert_close(torch.autograd.grad(value, student)[0], outputs['gradient'], **tight)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype):
    student, teacher = (side.detach().to(dtype) for side in drawn(2, 3, 8, 8, offset=50.))
    student.requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = PKDLoss()(student, teacher)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(by_loops(student, teacher), rel=1e-3)
    value.backward()
    assert student.grad.dtype == dtype
    assert student.grad.isfinite().all()


@pytest.mark.parametrize('shape', [(0, 3, 4, 4), (2, 3, 0, 4), (1, 3, 1, 1), (1, 3), (0, 3)])
def test_single_position_has_no_correlation(shape):
    student = torch.randn(shape, requires_grad=True)
    value = PKDLoss()(student, torch.randn(shape))
    assert value == 0
    value.backward()
    assert not student.grad.any()


def test_teacher_gets_no_gradient_and_both_stay_as_they_are():
    student, teacher = drawn(2, 3, 4, 5)
    teacher.requires_grad_()
    before = student.detach().clone(), teacher.detach().clone()
    PKDLoss()(student, teacher).backward()
    assert teacher.grad is None
    assert torch.equal(student, before[0])
    assert torch.equal(teacher, before[1])


@pytest.mark.parametrize(('make', 'weight'), [(retinanet, 10.), (two_stage, 6.)])
def test_weights_and_levels_of_the_authors(make, weight):
    pair = inspect_pair(*(Config(dict(default_scope='mmdet', model=make(channels=channels)))
                          for channels in (16, 24)))
    assert entries_of('pkd', pair) == [
        dict(type='mmkd.PKDLoss', on='neck', levels=[0, 1, 2, 3], loss_weight=weight)]
