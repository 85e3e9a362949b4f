"""KD-DETR's loss compared with loops. tests/test_training tests the queries of both networks."""
import math

import pytest
import torch
from test_losses.test_detrdistill import giou, random_set

from mmkd import KDDETRLoss


def compared(loss, one, other, *weight):
    return loss(one[0], other[0], *weight, student_also=[one[1]], teacher_also=[other[1]])


def divergence(s, t, tau, use_sigmoid):
    s, t = s / tau, t / tau
    if use_sigmoid:
        pairs = list(zip(s.sigmoid().tolist(), t.sigmoid().tolist()))
        pairs += [(1 - p, 1 - q) for p, q in pairs]
    else:
        pairs = zip(s.softmax(0).tolist(), t.softmax(0).tolist())
    return tau**2 * sum(q * math.log(q / p) for p, q in pairs)


@pytest.mark.parametrize('use_sigmoid', [True, False])
@pytest.mark.parametrize('tau', [1., 3.])
def test_it_is_the_formula(use_sigmoid, tau):
    mine, theirs = random_set(0, 5), random_set(1, 5)
    region = torch.rand(2, 5).double()
    got = compared(KDDETRLoss(2., 3., 4., tau, use_sigmoid), mine, theirs, region)
    parts, total = dict(cls=0., l1=0., giou=0.), 0.
    for n in range(2):
        for q in range(5):
            s, t = mine[0][n, :, q], theirs[0][n, :, q]
            confidence = (t.sigmoid() if use_sigmoid else t.softmax(0)[:-1]).max().item()
            w = confidence * region[n, q].item()
            a, b = mine[1][n, :, q], theirs[1][n, :, q]
            parts['cls'] += w * 2 * divergence(s, t, tau, use_sigmoid)
            parts['l1'] += w * 3 * (a - b).abs().sum().item()
            parts['giou'] += w * 4 * (1 - giou(a, b))
            total += w
    for name, value in parts.items():
        assert got[name].item() == pytest.approx(value / total, rel=1e-6)


def test_equal_predictions_have_no_loss_and_order_matters():
    mine = random_set(0, 5)
    loss = KDDETRLoss(use_sigmoid=True)
    assert sum(compared(loss, mine, mine).values()).item() == pytest.approx(0, abs=1e-12)
    turned = [one.roll(1, 2) for one in mine]
    assert sum(compared(loss, mine, turned).values()).item() > 0.1
    both = [sum(compared(loss, *([one.roll(shift, 2) for one in side] for side in (
        mine, random_set(1, 5)))).values()).item() for shift in (0, 2)]
    assert both[0] == pytest.approx(both[1])


def test_background_queries_have_little_weight():
    """With softmax, the last column is the background."""
    logits = torch.full((1, 3, 2), -8.)
    logits[0, 0, 0] = logits[0, 2, 1] = 8.
    mine, boxes = torch.zeros(1, 3, 2, requires_grad=True), torch.full((1, 4, 2), 0.5)
    sum(compared(KDDETRLoss(use_sigmoid=False), (mine, boxes), (logits, boxes)).values()).backward()
    first, second = mine.grad.abs().sum((0, 1)).tolist()
    assert second < 1e-5 < 0.1 < first


def test_gradient_precision_and_empty_sets():
    mine, theirs = random_set(0, dtype=torch.float32), random_set(1, dtype=torch.float32)
    leaves = [one.requires_grad_() for one in (*mine, *theirs)]
    loss = KDDETRLoss(use_sigmoid=True)
    exact = compared(loss, leaves[:2], leaves[2:])
    sum(exact.values()).backward()
    assert all(one.grad.abs().sum() > 0 for one in leaves[:2])
    assert all(one.grad is None for one in leaves[2:])
    with torch.autocast('cpu', dtype=torch.bfloat16):
        got = compared(loss, [one.half() for one in leaves[:2]], [one.half() for one in leaves[2:]])
    for name, value in got.items():
        assert value.dtype is torch.float32
        torch.testing.assert_close(value, exact[name], rtol=2e-2, atol=1e-3)
    for shape in ((0, 3, 4), (2, 3, 0)):
        empty = torch.zeros(shape, requires_grad=True), torch.zeros(shape[0], 4, shape[2])
        total = sum(compared(loss, empty, empty).values())
        assert total.item() == 0
        total.backward()


def test_query_of_weight_0_is_ignored():
    mine, theirs = random_set(0), random_set(1)
    weight = torch.ones(2, 4).double()
    weight[0, 1] = 0
    expected = compared(KDDETRLoss(use_sigmoid=True), mine, theirs, weight)
    mine[0][0, :, 1] = 1e4
    got = compared(KDDETRLoss(use_sigmoid=True), mine, theirs, weight)
    assert all(torch.equal(got[name], expected[name]) for name in expected)
    assert sum(compared(KDDETRLoss(use_sigmoid=True), mine, theirs, weight * 0).values()) == 0
