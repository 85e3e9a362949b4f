"""DKD compared with loops, known numbers and the authors' code; missing labels and errors.

NKD has the same closed form, so it is also tested here.
"""
import math

import pytest
import torch
from conftest import retinanet, two_stage
from mmengine.config import Config
from support.authors import cases

from mmkd.inspection import inspect_pair
from mmkd.losses import DKDLoss, KDLoss, NKDLoss
from mmkd.losses.fast.pieces import PIECE

S = torch.tensor([[1., 2, 0, -1], [.5, .5, 3, 0], [-2, 1, 0, 1]], dtype=torch.float64)
T = torch.tensor([[2., 1, 0, -1], [0, 0, 4, 1], [-1, 2, 0, 0]], dtype=torch.float64)
LABELS = torch.tensor([0, 2, 1])


def softmax(logits, tau):
    sizes = [math.exp(one / tau) for one in logits]
    return [one / sum(sizes) for one in sizes]


def dkd_by_loops(student, teacher, labels, alpha, beta, tau, weight=None):
    """The formula for one position at a time, with Python floats."""
    total, count = 0., 0.
    for m, (s, t, g) in enumerate(zip(student.tolist(), teacher.tolist(), labels.tolist())):
        if not 0 <= g < len(s):
            continue
        w = 1. if weight is None else weight[m].item()
        p, q = softmax(t, tau)[g], softmax(s, tau)[g]
        target = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
        rest = [softmax(x[:g] + x[g + 1:], tau) for x in (s, t)]
        others = sum(b * math.log(b / a) for a, b in zip(*rest))
        total += w * tau**2 * (alpha * target + beta * others)
        count += w
    return total / count


def nkd_by_loops(student, teacher, labels, gamma, tau, weight=None):
    total, count = 0., 0.
    for m, (s, t, g) in enumerate(zip(student.tolist(), teacher.tolist(), labels.tolist())):
        if not 0 <= g < len(s):
            continue
        w = 1. if weight is None else weight[m].item()
        rest = [softmax(x[:g] + x[g + 1:], tau) for x in (s, t)]
        total -= w * (softmax(t, 1)[g] * math.log(softmax(s, 1)[g]) +
                      gamma * tau**2 * sum(b * math.log(a) for a, b in zip(*rest)))
        count += w
    return total / count


def batch(*shape, seed=0):
    """Logits of both sides, labels that include -1, and weights that include 0."""
    rng = torch.Generator().manual_seed(seed)
    sides = 2 * torch.randn(2, *shape, dtype=torch.float64, generator=rng)
    positions = (shape[0], *shape[2:])
    labels = torch.randint(-1, shape[1], positions, generator=rng)
    weight = torch.rand(positions, dtype=torch.float64, generator=rng).sub(0.2).clamp(min=0)
    return (*sides, labels, weight)


@pytest.mark.parametrize(('loss', 'expected'), [
    (DKDLoss(1., 0., 1.), 0.218441), (DKDLoss(0., 1., 1.), 0.195937), (DKDLoss(), 0.267425),
    (NKDLoss(0.), 0.591460), (NKDLoss(), 2.297906), (NKDLoss(0.5), 0.591460 + 0.5 * 1.137630)])
def test_known_numbers(loss, expected):
    assert loss(S, T, labels=LABELS).item() == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize('setting', [(1., 0.25, 1.), (1., 8., 4.), (0.3, 1.2, 0.5)])
@pytest.mark.parametrize('weighted', [False, True])
def test_dkd_by_loops(setting, weighted):
    student, teacher, labels, weight = batch(40, 5)
    weight = weight if weighted else None
    assert DKDLoss(*setting)(student, teacher, weight, labels=labels).item() == pytest.approx(
        dkd_by_loops(student, teacher, labels, *setting, weight))


@pytest.mark.parametrize('setting', [(1.5, 1.), (0.7, 3.), (1., 0.5)])
@pytest.mark.parametrize('weighted', [False, True])
def test_nkd_by_loops(setting, weighted):
    student, teacher, labels, weight = batch(40, 5)
    weight = weight if weighted else None
    assert NKDLoss(*setting)(student, teacher, weight, labels=labels).item() == pytest.approx(
        nkd_by_loops(student, teacher, labels, *setting, weight))


@pytest.mark.parametrize(('method', 'kind'), [('dkd', DKDLoss), ('nkd', NKDLoss)])
def test_the_authors_numbers(method, kind):
    for settings, inputs, outputs in cases(method):
        student = inputs['student'].requires_grad_()
        value = kind(**settings)(student, inputs['teacher'], labels=inputs['labels'])
        value.backward()
        torch.testing.assert_close(value, outputs['value'], rtol=1e-10, atol=0)
        torch.testing.assert_close(student.grad, outputs['gradient'], rtol=1e-9, atol=1e-11)


LOSSES = [DKDLoss(0.7, 1.3, 2.), NKDLoss(1.2, 3.), NKDLoss(), DKDLoss(standardize=True)]


@pytest.mark.parametrize('loss', LOSSES, ids=['DKD', 'NKD', 'NKD-1', 'DKD-standardised'])
def test_gradient_on_maps(loss):
    student, teacher, labels, weight = batch(2, 4, 2, 3)
    for given in (None, weight):
        assert torch.autograd.gradcheck(
            lambda s, w=given: loss(s, teacher, w, labels=labels), student.requires_grad_())


@pytest.mark.parametrize('loss', LOSSES, ids=['DKD', 'NKD', 'NKD-1', 'DKD-standardised'])
def test_maps_and_pieces_are_rows(loss, monkeypatch):
    student, teacher, labels, weight = batch(3, 5, 4, 6)
    rows = [x.flatten(2).transpose(1, 2).reshape(-1, 5) for x in (student, teacher)]
    expected = loss(*rows, weight.flatten(), labels=labels.flatten())
    for size in (7, 60, 1 << 18):
        monkeypatch.setitem(PIECE, 'cpu', size)
        s = student.clone().requires_grad_()
        found = loss(s, teacher, weight, labels=labels)
        found.backward()
        torch.testing.assert_close(found, expected)
        if size == 7:
            gradient = s.grad
        torch.testing.assert_close(s.grad, gradient)


def test_with_equal_parts_it_is_kd():
    """Equation 6: KD is the target part plus (1 - p_g) times the part of the other classes."""
    student, teacher, labels, _ = batch(6, 5)
    labels = labels.clamp(min=0)
    parts = [[DKDLoss(*w, tau=2.)(s[None], t[None], labels=g[None]) for w in ((1., 0.), (0., 1.))]
             for s, t, g in zip(student, teacher, labels)]
    p = (teacher / 2).softmax(1).gather(1, labels[:, None]).squeeze(1)
    expected = sum(a + (1 - q) * b for (a, b), q in zip(parts, p)) / 6
    torch.testing.assert_close(KDLoss(2.)(student, teacher), expected)


@pytest.mark.parametrize('loss', LOSSES, ids=['DKD', 'NKD', 'NKD-1', 'DKD-standardised'])
def test_positions_without_a_label_are_left_out(loss):
    student, teacher, labels, _ = batch(12, 5)
    labels[3:5], labels[7] = -1, 5
    kept = (labels >= 0) & (labels < 5)
    expected = loss(student[kept], teacher[kept], labels=labels[kept])
    student[3], teacher[4], student[7] = float('nan'), float('nan'), float('inf')
    student.requires_grad_()
    found = loss(student, teacher, labels=labels)
    found.backward()
    torch.testing.assert_close(found, expected)
    assert student.grad.isfinite().all()
    assert (student.grad[~kept] == 0).all()
    assert (student.grad[kept] != 0).any(1).all()


def test_the_background_of_a_roi_head_is_a_class():
    student, teacher, _, _ = batch(4, 5)
    assert DKDLoss()(student, teacher, labels=torch.full((4, ), 4)) > 0
    assert DKDLoss()(student, teacher, labels=torch.full((4, ), 5)) == 0


@pytest.mark.parametrize('loss', LOSSES, ids=['DKD', 'NKD', 'NKD-1', 'DKD-standardised'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('case', ['no label', 'no RoI', 'one class', 'two classes', 'huge',
                                  'constant'])
def test_finite_for(loss, case, dtype):
    student, teacher, labels, _ = batch(6, 5)
    labels = labels.clamp(min=0)
    if case == 'no label':
        labels[:] = -1
    elif case == 'no RoI':
        student, teacher, labels = student[:0], teacher[:0], labels[:0]
    elif case == 'one class':
        student, teacher, labels = student[:, :1], teacher[:, :1], labels * 0
    elif case == 'two classes':
        student, teacher, labels = student[:, :2], teacher[:, :2], labels % 2
    elif case == 'huge':
        student, teacher = 1e4 * student.sign(), -1e4 * student.sign()
    elif case == 'constant':
        student = torch.ones_like(student) * 0.1
    student = student.to(dtype).requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = loss(student, teacher.to(dtype), labels=labels)
    value.backward()
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert student.grad.isfinite().all()
    if case in ('no label', 'no RoI'):
        assert value == 0


def test_the_teacher_gets_no_gradient():
    student, teacher, labels, _ = batch(4, 5)
    for loss in LOSSES:
        loss(student.requires_grad_(), teacher.requires_grad_(), labels=labels).backward()
    assert teacher.grad is None


@pytest.mark.parametrize('kind', [DKDLoss, NKDLoss])
def test_sigmoid_is_refused_by_name(kind):
    with pytest.raises(ValueError, match=f'`use_sigmoid=True`, but {kind.__name__} .*BCKDLoss'):
        kind(use_sigmoid=True)
    for setting in ({'tau': 0}, {'gamma' if kind is NKDLoss else 'beta': -1}):
        with pytest.raises(ValueError, match=next(iter(setting))):
            kind(**setting)
    student, teacher = retinanet(), retinanet(channels=16)
    pair = inspect_pair(*(Config(dict(default_scope='mmdet', model=one))
                          for one in (student, teacher)))
    entry = dict(type=f'mmkd.{kind.__name__}', on='cls')
    assert (f'`cls` of the student is activated by sigmoid, but {kind.__name__} ' in
            pair.problem(entry))
    assert 'use mmkd.BCKDLoss' in pair.problem(entry)
    # With `use_sigmoid=False`, softmax is over the classes of an anchor.
    assert not pair.problem(dict(entry, use_sigmoid=False))


@pytest.mark.parametrize('kind', [DKDLoss, NKDLoss])
def test_a_roi_head_is_taken(kind):
    pair = inspect_pair(*(Config(dict(default_scope='mmdet', model=two_stage(width=width)))
                          for width in (8, 12)))
    entry = dict(type=f'mmkd.{kind.__name__}', on='cls')
    assert not pair.problem(entry)
    assert 'is activated by sigmoid' in pair.problem(dict(entry, on='rpn_cls'))
