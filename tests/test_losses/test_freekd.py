"""FreeKD compared with the authors' numbers and loops; its wavelet transform, and empty input."""
import pytest
import torch
from support.authors import cases

from mmkd import FreeKDLoss, FrequencyPrompts
from mmkd.core.prepared_file import write_prepared
from mmkd.losses.freekd import haar, inverse_haar


def set_up(path, tokens):
    about = dict(type='FrequencyPrompts', arguments=dict(tokens=tokens.shape[1]), teacher={},
                 on='neck', paths=['neck'], channels=[tokens.shape[2]])
    write_prepared(str(path), about, [dict(tokens=tokens)])
    loss = FreeKDLoss(str(path))
    loss.setup(tokens.shape[2], tokens.shape[2])
    return loss.double()


def test_the_authors_numbers(tmp_path):
    settings, inputs, outputs = cases('freekd')[0]
    assert settings['kind'] == 'detector'
    losses = [set_up(tmp_path / f'{n}.pth', tokens) for n, tokens in enumerate(inputs['tokens'])]
    student = [one.requires_grad_() for one in inputs['student']]
    value = sum(loss(*pair) for loss, *pair in zip(losses, student, inputs['teacher']))
    torch.testing.assert_close(value, outputs['value'], rtol=1e-9, atol=0)
    for mine, wanted in zip(torch.autograd.grad(value, student), outputs['gradients']):
        torch.testing.assert_close(mine, wanted, rtol=1e-8, atol=1e-10)


def test_the_authors_first_stage():
    for settings, inputs, outputs in cases('freekd'):
        if settings['kind'] != 'stage 1':
            continue
        module = FrequencyPrompts(settings['tokens'])
        module.setup(2)
        module.double().load_state_dict(dict(tokens=inputs['tokens']))
        new, parts = module(inputs['features'])
        torch.testing.assert_close(new, outputs['new'], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(parts['dice'], outputs['dice'], rtol=1e-9, atol=0)
        ((new * inputs['factor']).sum() + parts['dice']).backward()
        torch.testing.assert_close(module.tokens.grad, outputs['gradient'], rtol=1e-8, atol=1e-9)


def test_the_transform_is_that_of_pytorch_wavelets():
    found = [one for one in cases('freekd') if one[0]['kind'] == 'transform']
    assert len(found) == 3
    for _, inputs, outputs in found:
        low, high = haar(inputs['features'])
        torch.testing.assert_close(low, outputs['low'], rtol=1e-9, atol=1e-9)
        for mine, wanted in zip(high, outputs['high']):
            for band in wanted.unbind(2):  # the order of the orientations may differ
                assert any(torch.allclose(band, own, rtol=1e-9, atol=1e-9)
                           for own in mine.unbind(2))


@pytest.mark.parametrize('size', [(8, 16), (11, 5), (1, 1), (1, 6), (7, 2)])
def test_the_inverse_returns_every_size(size):
    features = torch.randn(2, 3, *size).double()
    low, bands = haar(features)
    torch.testing.assert_close(inverse_haar(low, bands, size), features)
    if size == (8, 16):  # orthonormal
        total = low.square().sum() + sum(band.square().sum() for band in bands)
        torch.testing.assert_close(total, features.square().sum())


def test_by_loops(tmp_path):
    """The formula, coefficient by coefficient."""
    tokens = torch.randn(4, 2, 3).double()
    loss = set_up(tmp_path / 'p.pth', tokens)
    student, teacher = (torch.randn(2, 3, 8, 8).double() for _ in range(2))
    expected, sides = 0., [student, teacher]
    for j in range(3):
        details = []
        for number, side in enumerate(sides):
            a, b, c, d = (side[:, :, y::2, x::2] for y in (0, 1) for x in (0, 1))
            details.append([(a + b - c - d) / 2, (a - b + c - d) / 2, (a - b - c + d) / 2])
            sides[number] = (a + b + c + d) / 2
        total = sum(details[1])
        size = total.shape[2]
        for n in range(2):
            for y in range(size):
                for x in range(size):
                    for k in range(2):
                        mask = 1 / (1 + torch.exp(-(tokens[1 + j, k] * total[n, :, y, x]).sum()))
                        for one, other in zip(*details):
                            error = (one[n, :, y, x] - other[n, :, y, x]).abs().sum()
                            expected += float(mask * error) / (2 * 2 * 3 * 3 * size**2)
    assert loss(student, teacher).item() == pytest.approx(expected, rel=1e-9)


def test_low_frequencies_do_not_matter(tmp_path):
    """Adding a constant per channel does not change the loss. This needs sizes divisible by 8."""
    loss = set_up(tmp_path / 'p.pth', torch.randn(4, 2, 3).double())
    student, teacher = (torch.randn(2, 3, 8, 16).double() for _ in range(2))
    torch.testing.assert_close(loss(student + torch.randn(2, 3, 1, 1), teacher),
                               loss(student, teacher))
    assert loss(teacher, teacher) == 0


def test_gradient_belongs_to_the_student_alone(tmp_path):
    loss = set_up(tmp_path / 'p.pth', torch.randn(4, 2, 3).double())
    student, teacher = (torch.randn(1, 3, 5, 4).double().requires_grad_() for _ in range(2))
    loss(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0
    assert not list(loss.parameters())
    assert not loss.state_dict()


def test_half_precision_and_autocast(tmp_path):
    loss = set_up(tmp_path / 'p.pth', torch.randn(4, 2, 3)).float()
    student, teacher = (torch.randn(1, 3, 5, 4) for _ in range(2))
    expected = loss(student, teacher)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        torch.testing.assert_close(loss(student, teacher), expected)
    found = loss(student.half(), teacher.half())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=0)


@pytest.mark.parametrize('shape', [(0, 3, 2, 2), (2, 3, 0, 4)])
def test_nothing_to_compare(tmp_path, shape):
    loss = set_up(tmp_path / 'p.pth', torch.randn(4, 2, 3).double())
    student = torch.zeros(shape).double().requires_grad_()
    value = loss(student, torch.zeros(shape).double())
    value.backward()
    assert value == 0
