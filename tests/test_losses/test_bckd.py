"""BCKD compared with loops and the authors' numbers, and on empty input."""
import math

import pytest
import torch
from support.authors import cases

from mmkd import BCKDBoxLoss, BCKDLoss
from mmkd.losses.bckd import gap_cross_entropy, largest_gap
from mmkd.losses.fast.pieces import PIECE

S = torch.tensor([[1., 2, 0, -1], [.5, .5, 3, 0], [-2, 1, 0, 1]], dtype=torch.float64)
T = torch.tensor([[2., 1, 0, -1], [0, 0, 4, 1], [-1, 2, 0, 0]], dtype=torch.float64)


def batch(seed=0, size=(3, 4), classes=3, dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)
    student, teacher = 3 * torch.randn(2, 2, classes, *size, dtype=dtype, generator=rng)
    labels = torch.randint(-1, classes + 1, (2, *size), generator=rng)
    weights = torch.rand(2, *size, dtype=dtype, generator=rng).masked_fill(labels < 0, 0)
    return student.requires_grad_(), teacher, dict(
        labels=labels, label_weights=weights, num_positives=torch.tensor(5., dtype=dtype))


def boxes(seed=0, size=(3, 4), dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)
    corners = torch.rand(2, 2, 2, *size, dtype=dtype, generator=rng) * 30
    sides = torch.rand(2, 2, 2, *size, dtype=dtype, generator=rng) * 20
    one, other = torch.cat([corners, corners + sides], 2)
    return one.requires_grad_(), other


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def score_of(s, t):
    p, q = sigmoid(s), sigmoid(t)
    return abs(p - q) * -(q * math.log(p) + (1 - q) * math.log(1 - p))


def test_known_value():
    """Section G of the fact sheet."""
    found = BCKDLoss()(S, T, labels=torch.zeros(3).long(), label_weights=torch.ones(3).double(),
                       num_positives=torch.tensor(1.).double())
    assert abs(found - 0.857036) < 1e-6


@pytest.mark.parametrize('size', [1 << 18, 7])
def test_by_loops(monkeypatch, size):
    """In one piece, and in pieces of two positions."""
    monkeypatch.setitem(PIECE, 'cpu', size)
    student, teacher, named = batch()
    expected = sum(
        named['label_weights'][n, y, x].item() * score_of(
            student[n, c, y, x].item(), teacher[n, c, y, x].item())
        for n in range(2) for c in range(3) for y in range(3) for x in range(4)) / 5
    found = BCKDLoss()(student, teacher, **named)
    assert abs(found.item() - expected) < 1e-10
    own = torch.rand(2, 3, 4).double()
    torch.testing.assert_close(  # the weights of a region are multiplied with the label weights
        BCKDLoss()(student, teacher, own, **named),
        BCKDLoss()(student, teacher, **dict(named, label_weights=named['label_weights'] * own)))


def test_gradient_in_pieces_is_that_of_autograd(monkeypatch):
    monkeypatch.setitem(PIECE, 'cpu', 7)
    student, teacher, named = batch(1)
    weight = named['label_weights']

    def plain(s, t):
        p, q = s.sigmoid(), t.sigmoid()
        each = torch.nn.functional.binary_cross_entropy_with_logits(s, q, reduction='none')
        return ((p - q).abs() * each * weight.unsqueeze(1)).sum()

    torch.testing.assert_close(*(torch.autograd.grad(2 * one(student, teacher), student)
                                 for one in (lambda s, t: gap_cross_entropy(s, t, weight), plain)))
    assert torch.autograd.gradcheck(lambda s: gap_cross_entropy(s, teacher, weight), student)
    torch.testing.assert_close(largest_gap(student, teacher),
                               (student.sigmoid() - teacher.sigmoid()).abs().amax(1).detach())


def test_boxes_by_loops():
    (student, teacher), (s, t, named) = boxes(), batch(2)
    expected = 0.
    for n in range(2):
        for y in range(3):
            for x in range(4):
                a, b = (one[n, :, y, x].tolist() for one in (student, teacher))
                gap = max(abs(sigmoid(s[n, c, y, x].item()) - sigmoid(t[n, c, y, x].item()))
                          for c in range(3))
                common = math.prod(max(0., min(a[k + 2], b[k + 2]) - max(a[k], b[k]))
                                   for k in (0, 1))
                union = sum(math.prod(one[k + 2] - one[k] for k in (0, 1))
                            for one in (a, b)) - common
                around = math.prod(max(a[k + 2], b[k + 2]) - min(a[k], b[k]) for k in (0, 1))
                giou = common / union - (around - union) / around
                expected += named['label_weights'][n, y, x].item() * gap * (1 - giou)
    found = BCKDBoxLoss(loss_weight=1.)(student, teacher, student_also=[s], teacher_also=[t],
                                        **named)
    assert abs(found.item() - expected / 5) < 1e-10
    found.backward()
    assert student.grad.abs().sum() > 0
    assert s.grad is None  # the scores are only weights


@pytest.mark.parametrize(('settings', 'inputs', 'outputs'), cases('bckd'))
def test_as_the_authors(settings, inputs, outputs):
    """Compared with LDHead.loss_single of the authors, with and without positives."""
    student, named = inputs['student'].requires_grad_(), {
        name: inputs[name] for name in ('labels', 'label_weights', 'num_positives')}
    found = BCKDLoss(**settings)(student, inputs['teacher'], **named)
    torch.testing.assert_close(found, outputs['classes'], rtol=1e-6, atol=0)
    torch.testing.assert_close(torch.autograd.grad(found, student)[0], outputs['gradient'],
                               rtol=1e-6, atol=1e-9)
    # The authors compute the GIoU in units of the stride, of boxes decoded from bins.
    bins = inputs['student_bins'].requires_grad_()
    flat = bins.permute(0, 2, 3, 1).unflatten(3, (4, -1)).softmax(4)
    sides = (flat @ torch.arange(flat.shape[4]).double()) * inputs['stride']
    at = (inputs['anchors'][:, :2] + inputs['anchors'][:, 2:]).view(*sides.shape[:3], 2) / 2
    mine = torch.cat([at - sides[..., :2], at + sides[..., 2:]], 3).permute(0, 3, 1, 2)
    torch.testing.assert_close(mine, inputs['student_boxes'])
    found = BCKDBoxLoss(**settings)(mine, inputs['teacher_boxes'], student_also=[student],
                                    teacher_also=[inputs['teacher']], **named)
    torch.testing.assert_close(found, outputs['boxes'], rtol=1e-6, atol=0)
    torch.testing.assert_close(torch.autograd.grad(found, bins)[0], outputs['gradient_of_bins'],
                               rtol=1e-6, atol=1e-9)


def test_a_level_without_positives():
    student, teacher, named = batch()
    named['labels'] = named['labels'].clamp(max=-1)
    assert BCKDLoss()(student, teacher, **named) > 0
    found = BCKDLoss(only_with_positives=True)(student, teacher, **named)
    found.backward()
    assert found == 0
    assert student.grad.abs().sum() == 0


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    student, teacher, named = batch(dtype=torch.float32)
    halves = [one.detach().to(dtype) for one in (student, teacher)]
    expected = BCKDLoss()(*(one.float() for one in halves), **named)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = BCKDLoss()(halves[0].requires_grad_(), halves[1], **named)
        one, other = boxes(dtype=torch.float32)
        of_boxes = BCKDBoxLoss()(one, other, student_also=halves[:1], teacher_also=halves[1:],
                                 **named)
    assert found.dtype == of_boxes.dtype == torch.float32
    assert torch.equal(found, expected)


def test_extreme_logits_and_ignored_positions():
    """Large logits are exact, and NaN at positions of weight 0 is ignored."""
    student = torch.tensor([[[100., -100, 60]]], requires_grad=True)
    teacher = torch.tensor([[[-100., 100, 60]]])
    named = dict(labels=torch.zeros(1, 3).long(), num_positives=torch.tensor(1.))
    found = BCKDLoss()(student, teacher, label_weights=torch.ones(1, 3), **named)
    assert found == 200
    teacher[..., 2] = float('nan')
    found = BCKDLoss()(student, teacher, label_weights=torch.tensor([[1., 1, 0]]), **named)
    found.backward()
    assert found == 200
    assert student.grad.tolist() == [[[1., -1., 0.]]]
    empty = torch.zeros(2, 3, 0, 4, requires_grad=True)
    named.update(labels=torch.zeros(2, 0, 4).long(), label_weights=torch.ones(2, 0, 4))
    assert BCKDLoss()(empty, empty.detach(), **named) == 0


def test_what_does_not_fit_is_refused():
    student, teacher, named = batch()
    with pytest.raises(ValueError, match='BCKDLoss needs a sigmoid for each class.* softmax over '
                                         'the classes; use mmkd.DISTLoss'):
        BCKDLoss(use_sigmoid=False)(student, teacher, **named)
    also = dict(student_also=[student], teacher_also=[teacher])
    with pytest.raises(ValueError, match='got 3 columns per box; compare'):
        BCKDBoxLoss()(student, teacher, **also, **named)
    with pytest.raises(ValueError, match='softmax over the classes'):
        BCKDBoxLoss()(*boxes(), also_sigmoid=[False], **also, **named)
    with pytest.raises(TypeError, match='`only_with_positives` must be True or False'):
        BCKDLoss(only_with_positives=1)
