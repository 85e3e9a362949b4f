"""Standardised logits in KD and DKD: loops, known numbers, authors' code, invariances, errors."""
import math
import statistics

import pytest
import torch
from conftest import retinanet, segmentor, two_stage
from mmengine.config import Config
from support.authors import cases

from mmkd.inspection import entries_of, inspect_pair
from mmkd.losses import DKDLoss, KDLoss, LogitLoss
from mmkd.losses.lskd import standardized

S = torch.tensor([[1., 2, 0, -1], [.5, .5, 3, 0], [-2, 1, 0, 1]], dtype=torch.float64)
T = torch.tensor([[2., 1, 0, -1], [0, 0, 4, 1], [-1, 2, 0, 0]], dtype=torch.float64)


def by_loops(student, teacher, tau):
    total = 0.
    for sides in zip(student.tolist(), teacher.tolist()):
        probabilities = []
        for row in sides:
            mean, spread = statistics.fmean(row), statistics.stdev(row)
            sizes = [math.exp((one - mean) / (spread + 1e-7) / tau) for one in row]
            probabilities.append([one / sum(sizes) for one in sizes])
        total += sum(q * math.log(q / p) for p, q in zip(*probabilities))
    return tau**2 * total / len(student)


def pair_of(student, teacher, scope='mmdet'):
    return inspect_pair(*(Config(dict(default_scope=scope, model=one))
                          for one in (student, teacher)))


def test_known_number():
    value = KDLoss(2., standardize=True)(S, T)
    assert value.item() == pytest.approx(0.153441, abs=1e-6)
    assert value.item() == pytest.approx(by_loops(S, T, 2.))


@pytest.mark.parametrize('tau', [1., 3.])
def test_kd_by_loops(tau):
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 2, 6, 3, 4, dtype=torch.float64)
    rows = [x.flatten(2).transpose(1, 2).reshape(-1, 6) for x in (student, teacher)]
    found = KDLoss(tau, standardize=True)(student, teacher)
    assert found.item() == pytest.approx(by_loops(*rows, tau))
    loss = KDLoss(tau, standardize=True)  # the formula on rows, with autograd
    torch.testing.assert_close(LogitLoss.compare(loss, student, teacher), found)


def test_the_authors_numbers():
    for settings, inputs, outputs in cases('lskd'):
        kind = DKDLoss if 'alpha' in settings else KDLoss
        named = dict(labels=inputs['labels']) if kind is DKDLoss else {}
        student = inputs['student'].requires_grad_()
        value = kind(**settings)(student, inputs['teacher'], **named)
        value.backward()
        torch.testing.assert_close(value, outputs['value'], rtol=1e-10, atol=0)
        torch.testing.assert_close(student.grad, outputs['gradient'], rtol=1e-9, atol=1e-11)


def test_positive_affine_maps_of_a_position_do_not_matter():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 6, 5, dtype=torch.float64)
    scale, shift = torch.rand(2, 6, 1, dtype=torch.float64) + 0.5
    labels = torch.randint(5, (6, ))
    for loss, named in ((KDLoss(standardize=True), {}), (DKDLoss(standardize=True),
                                                         dict(labels=labels))):
        torch.testing.assert_close(loss(scale * student + shift, teacher, **named),
                                   loss(student, teacher, **named), rtol=1e-6, atol=0)
        assert loss(scale * teacher + shift, teacher, **named) < 1e-12


@pytest.mark.parametrize('weighted', [False, True])
def test_gradient(weighted):
    """The gradient includes the student's mean and standard deviation."""
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 2, 4, 2, 3, dtype=torch.float64)
    weight = torch.tensor([[[1, 0, 2], [.5, 1, 1]], [[0] * 3] * 2]).double() if weighted else None
    loss = KDLoss(2., standardize=True)
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher, weight), student.requires_grad_())


def test_masked_and_constant_positions():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 5, 7)
    mask = torch.tensor([1., 0, 1, 1, 0])
    expected = KDLoss(standardize=True)(student[mask > 0], teacher[mask > 0])
    student[1], teacher[4] = float('nan'), float('inf')
    student.requires_grad_()
    value = KDLoss(standardize=True)(student, teacher, mask)
    value.backward()
    torch.testing.assert_close(value, expected)
    assert student.grad.isfinite().all()
    # The mean of equal floats may differ from them by rounding.
    student = torch.full((3, 7), 0.1).requires_grad_()
    assert (standardized(student) == 0).all()
    KDLoss(standardize=True)(student, teacher[:3]).backward()
    assert (student.grad == 0).all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 2, 19, 4, 4)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        half = student.to(dtype).requires_grad_()
        value = KDLoss(2., standardize=True)(half, teacher.to(dtype))
    value.backward()
    assert value.dtype == torch.float32
    assert half.grad.isfinite().all()
    torch.testing.assert_close(value, KDLoss(2., standardize=True)(student, teacher), rtol=0.03,
                               atol=0)


@pytest.mark.parametrize('columns', [1, 2])
def test_fewer_than_three_columns_are_constant(columns):
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 6, columns)
    loss = KDLoss(standardize=True)
    value = loss(student.requires_grad_(), teacher)
    value.backward()
    assert value.isfinite()
    assert (student.grad == 0).all()
    assert 'depend only on the signs' in loss.notes(columns)[0] or columns == 1
    assert not loss.notes(3)
    pair = pair_of(*(two_stage(classes=1, width=width) for width in (8, 12)))
    entry = dict(type='mmkd.KDLoss', on='cls', standardize=True)
    assert 'standardised logits of 2 columns depend only on the signs' in pair.problem(entry)


def test_sigmoid_is_refused():
    with pytest.raises(ValueError, match='`use_sigmoid=True`, but standardised logits .*BCKDLoss'):
        KDLoss(use_sigmoid=True, standardize=True)
    with pytest.raises(TypeError, match='`standardize` must be True or False'):
        KDLoss(standardize=1)
    pair = pair_of(retinanet(), retinanet(channels=16))
    entry = dict(type='mmkd.KDLoss', on='cls', standardize=True)
    problem = pair.problem(entry)
    assert '`cls` of the student is activated by sigmoid, but standardised logits' in problem
    assert '`use_sigmoid=False`' in problem
    assert not pair.problem(dict(entry, use_sigmoid=False))
    assert not pair.problem(dict(entry, standardize=False))


def test_by_its_method():
    pair = pair_of(two_stage(), two_stage(width=12))
    entry, = entries_of('lskd', pair)
    assert entry == dict(type='mmkd.KDLoss', on='cls', tau=2., standardize=True, loss_weight=9.,
                         name='loss_cls_lskd')
    pair = pair_of(segmentor(), segmentor(width=12), 'mmseg')
    assert [one['name'] for one in entries_of('kd+lskd', pair) if 'name' in one] == [
        'loss_cls_lskd', 'loss_aux_lskd']
