"""ATLoss compared with loops and the authors' numbers, and at the points of its method."""
import pytest
import torch
from conftest import retinanet, segmentor
from mmengine.config import Config
from support.authors import cases

from mmkd import ATLoss
from mmkd.inspection import entries_of, inspect_pair
from mmkd.losses.fast.squares import sum_of_squares


def by_loops(student, teacher):
    def attention(image):
        values = [sum(float(v)**2 for v in image[:, y, x]) / len(image)
                  for y in range(image.shape[1]) for x in range(image.shape[2])]
        return [v / sum(w * w for w in values)**0.5 for v in values]
    total = count = 0
    for own, other in zip(student, teacher):
        each = [(a - b)**2 for a, b in zip(attention(own), attention(other))]
        total, count = total + sum(each), count + len(each)
    return total / count


def drawn(dtype=torch.float64):
    torch.manual_seed(0)
    student, teacher = torch.randn(3, 4, 2, 5, dtype=dtype), torch.randn(3, 6, 2, 5, dtype=dtype)
    return student.requires_grad_(), teacher


def test_it_is_the_definition():
    student, teacher = drawn()
    assert ATLoss(2.)(student, teacher).item() == pytest.approx(2 * by_loops(student, teacher))
    assert torch.autograd.gradcheck(lambda x: ATLoss()(x, teacher), student)
    assert torch.autograd.gradcheck(sum_of_squares, student)


@pytest.mark.parametrize(('settings', 'inputs', 'outputs'), cases('at'))
def test_numbers_of_the_authors(settings, inputs, outputs):
    student = inputs['student'].requires_grad_()
    value = ATLoss()(student, inputs['teacher'])
    is_double = student.dtype == torch.float64
    tight = dict(rtol=1e-10, atol=1e-12) if is_double else dict(rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(value, outputs['value'], **tight)
    torch.testing.assert_close(torch.autograd.grad(value, student)[0], outputs['gradient'], **tight)


def test_sign_and_scale_do_not_matter():
    student, teacher = drawn()
    signs = torch.tensor([1., -1, -1, 1]).view(4, 1, 1)
    scales = torch.tensor([2., 1e-3, 50]).view(3, 1, 1, 1)
    torch.testing.assert_close(ATLoss()(student * signs * scales, teacher),
                               ATLoss()(student, teacher))
    assert ATLoss()(teacher[:, [3, 1, 2, 0, 5, 4]] * scales, teacher).item() == pytest.approx(0)


def test_image_without_activity_has_a_finite_gradient():
    student, teacher = (side.detach().float() for side in drawn())
    student[0], teacher[1] = 0, 0
    student.requires_grad_()
    value = ATLoss()(student, teacher)
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype):
    student, teacher = (side.detach().to(dtype) * 300 for side in drawn())  # the squares overflow
    student.requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = ATLoss()(student, teacher)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(by_loops(student, teacher), rel=1e-3)
    value.backward()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize('shape', [(0, 3, 4, 4), (2, 3, 0, 4)])
def test_nothing_to_compare(shape):
    student = torch.randn(shape, requires_grad=True)
    value = ATLoss()(student, torch.randn(shape))
    assert value == 0
    value.backward()


def test_vectors_are_refused():
    with pytest.raises(ValueError, match=r"ATLoss compares maps \(N, C, H, W\), but got \(2, 3\)"):
        ATLoss()(torch.randn(2, 3), torch.randn(2, 3))


def test_points_and_weights_of_the_authors():
    for scope, make, entry in (
            ('mmdet', retinanet, dict(on='backbone', loss_weight=1000.)),
            ('mmseg', segmentor, dict(on='features', loss_weight=10000.))):
        pair = inspect_pair(*(Config(dict(default_scope=scope, model=make(width=width)))
                              for width in (8, 12)))
        assert entries_of('at', pair) == [dict(type='mmkd.ATLoss', **entry)]
