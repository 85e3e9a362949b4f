"""IFVDLoss compared with loops and the authors' numbers, and in a segmentor."""
import pytest
import torch
from conftest import segmentor
from mmengine.config import Config
from support.authors import cases

from mmkd import IFVDLoss
from mmkd.inspection import entries_of, inspect_pair


def by_loops(student, teacher, labels):
    """The definition, for labels of the size of the maps."""
    def cosine(a, b):
        return float(a @ b / (a.norm() * b.norm()))

    total = count = 0
    for n, own in enumerate(labels.tolist()):
        places = [(y, x) for y in range(len(own)) for x in range(len(own[0]))]
        for y, x in places:
            count += 1
            if own[y][x] < 0:
                continue
            same = [at for at in places if own[at[0]][at[1]] == own[y][x]]
            sides = []
            for side in (student, teacher):
                mean = sum(side[(n, slice(None), *at)] for at in same) / len(same)
                sides.append(cosine(side[n, :, y, x], mean))
            total += (sides[0] - sides[1])**2
    return total / count


def drawn(dtype=torch.float64, classes=3):
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 4, 3, 5, dtype=dtype), torch.randn(2, 6, 3, 5, dtype=dtype)
    return student.requires_grad_(), teacher, dict(
        label_map=torch.randint(-1, classes, (2, 3, 5)), num_classes=classes)


def test_it_is_the_definition():
    student, teacher, named = drawn()
    found = IFVDLoss(3.)(student, teacher, **named)
    assert found.item() == pytest.approx(3 * by_loops(student.detach(), teacher,
                                                      named['label_map']), rel=1e-9)
    assert torch.autograd.gradcheck(lambda x: IFVDLoss()(x, teacher, **named), student)


@pytest.mark.parametrize(('settings', 'inputs', 'outputs'), cases('ifvd'))
def test_numbers_of_the_authors(settings, inputs, outputs):
    student = inputs.pop('student').requires_grad_()
    value = IFVDLoss()(student, **inputs, **settings)
    is_double = student.dtype == torch.float64
    tight = dict(rtol=1e-5, atol=1e-7) if not is_double else dict(rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(value, outputs['value'], **tight)
    torch.testing.assert_close(torch.autograd.grad(value, student)[0], outputs['gradient'], **tight)


def test_labels_are_reduced_by_nearest_neighbours():
    student, teacher, named = drawn()
    large = named['label_map'].repeat_interleave(4, 1).repeat_interleave(4, 2)
    torch.testing.assert_close(IFVDLoss()(student, teacher, label_map=large, num_classes=3),
                               IFVDLoss()(student, teacher, **named))


def test_ignored_pixels_add_nothing_and_have_no_gradient():
    student, teacher, named = drawn()
    is_ignored = (named['label_map'] < 0).unsqueeze(1)
    assert is_ignored.any()
    value = IFVDLoss()(student, teacher, **named)
    gradient, = torch.autograd.grad(value, student)
    assert not (gradient * is_ignored).any()
    other = torch.where(is_ignored, 100 * teacher, teacher)
    torch.testing.assert_close(IFVDLoss()(student, other, **named), value)
    # Labels outside of the classes are also ignored.
    named['label_map'] = torch.where(named['label_map'] < 0, 7, named['label_map'])
    torch.testing.assert_close(IFVDLoss()(student, teacher, **named), value)


def test_rotation_and_scale_of_features_do_not_matter():
    student, teacher, named = drawn()
    turn, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))
    turned = torch.einsum('nchw,cd->ndhw', teacher, turn)
    assert IFVDLoss()(5 * turned, teacher, **named).item() == pytest.approx(0, abs=1e-15)
    torch.testing.assert_close(IFVDLoss()(student, turned, **named),
                               IFVDLoss()(student, teacher, **named))


def test_features_of_zeros_have_finite_gradients():
    """After a ReLU all features of a pixel may be 0, and dropout may clear whole channels."""
    student, teacher, named = (drawn(torch.float32))
    student = student.detach()
    student[:, :, :2], teacher[:, :, 1] = 0, 0
    for own in (student, 0 * student):
        own = own.clone().requires_grad_()
        value = IFVDLoss()(own, teacher, **named)
        value.backward()
        assert value.isfinite()
        assert own.grad.isfinite().all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype):
    student, teacher, named = drawn()
    student, teacher = (side.detach().to(dtype) for side in (student, teacher))
    student.requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = IFVDLoss()(student, teacher, **named)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(
        by_loops(student.detach().float(), teacher.float(), named['label_map']), rel=1e-3)
    value.backward()
    assert student.grad.dtype == dtype


@pytest.mark.parametrize('shape', [(0, 3, 4, 4), (2, 3, 0, 4)])
def test_nothing_to_compare(shape):
    student = torch.randn(shape, requires_grad=True)
    value = IFVDLoss()(student, torch.randn(shape), num_classes=3,
                       label_map=torch.zeros(shape[0], 8, 8).long())
    assert value == 0
    value.backward()
    student, teacher, named = drawn()
    named['label_map'].fill_(-1)
    value = IFVDLoss()(student, teacher, **named)
    assert value == 0
    value.backward()


def test_vectors_are_refused():
    with pytest.raises(ValueError, match=r"IFVDLoss compares maps \(N, C, H, W\), but got \(2, "
                                         r"3\)"):
        IFVDLoss()(torch.randn(2, 3), torch.randn(2, 3), label_map=torch.zeros(2, 4, 4).long(),
                   num_classes=3)


def test_points_and_weights_of_the_authors():
    pair = inspect_pair(*(Config(dict(default_scope='mmseg', model=segmentor(width=width)))
                          for width in (8, 12)))
    assert entries_of('ifvd', pair) == [
        dict(type='mmkd.IFVDLoss', on='features', loss_weight=200.),
        dict(type='mmkd.KDLoss', on='cls', loss_weight=10 / 19)]
    assert entries_of('fitnets', pair) == [
        dict(type='mmkd.MSELoss', on='features', connector='conv', loss_weight=10.)]
