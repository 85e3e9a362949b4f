"""Losses in closed form, computed in pieces, compared with the same formulas by autograd."""
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkd.losses import DISTLoss, KDLoss, LogitLoss
from mmkd.losses.fast import closed_form, pieces

LOSSES = dict(dist=partial(DISTLoss, 0.5, 2.), kd=KDLoss)


def straightforward(loss, student, teacher, weight=None):
    """Compute the loss by autograd, as LogitLoss does for any formula on rows."""
    return loss.loss_weight * LogitLoss.compare(loss, student, teacher, weight)


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(list(LOSSES)), seed=st.integers(0, 10**6), use_sigmoid=st.booleans(),
       tau=st.sampled_from([1., 4.]), masked=st.booleans(), channels_last=st.booleans(),
       piece=st.sampled_from([1, 7, 64, 1 << 18]),
       shape=st.sampled_from([(3, 5), (2, 3, 4, 5), (1, 7, 11), (2, 1, 3, 3), (4, 6, 1, 1)]))
def test_value_and_gradient_are_the_straightforward_ones(name, seed, use_sigmoid, tau, masked,
                                                         channels_last, piece, shape):
    """For any size of the pieces and any memory layout."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (3 * torch.randn(shape, generator=generator, dtype=torch.float64)
                        for _ in range(2))
    if channels_last and len(shape) == 4:
        teacher = teacher.to(memory_format=torch.channels_last)
    weight = None
    if masked:
        weight = torch.rand(shape[0], *shape[2:], generator=generator, dtype=torch.float64)
        weight = weight * (weight > 0.3)
    loss = LOSSES[name](tau=tau, use_sigmoid=use_sigmoid, loss_weight=3.)
    found = []
    before, pieces.PIECE['cpu'] = pieces.PIECE['cpu'], piece
    try:
        for form in (lambda *args: loss(*args), lambda *args: straightforward(loss, *args)):
            x = student.clone().requires_grad_()
            value = form(x, teacher, weight)
            value.backward()
            found.append((value.detach(), x.grad))
    finally:
        pieces.PIECE['cpu'] = before
    # The correlation of a constant class is 0 / 0, with a gradient of the order of 1 / eps.
    scale = found[1][1].abs().max().clamp(min=1e-3)
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found[0][1] / scale, found[1][1] / scale, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize('name', LOSSES)
@pytest.mark.parametrize('use_sigmoid', [False, True])
def test_float32_is_close_to_autograd_in_float64(name, use_sigmoid):
    """Many positions with small, nearly equal probabilities, as an untrained detector predicts."""
    torch.manual_seed(0)
    student, teacher = (torch.randn(2, 80, 40, 50) * 0.1 - 4.6 for _ in range(2))
    loss = LOSSES[name](use_sigmoid=use_sigmoid)
    x = student.double().requires_grad_()
    exact = straightforward(loss, x, teacher.double())
    exact.backward()
    for form in (loss, partial(straightforward, loss)):
        y = student.clone().requires_grad_()
        value = form(y, teacher)
        value.backward()
        assert value.item() == pytest.approx(exact.item(), rel=1e-5)
        assert (y.grad - x.grad).norm() / x.grad.norm() < 1e-5


@pytest.mark.parametrize('shape', [(2, 1, 40, 40), (1, 80, 1, 1), (2, 4, 1, 1), (1, 3, 1, 7)])
@pytest.mark.parametrize('use_sigmoid', [False, True])
def test_gradient_with_one_class_or_position_is_accurate(shape, use_sigmoid):
    """In these shapes one relation is constant on both sides, so its correlation is 0 / eps."""
    torch.manual_seed(0)
    student, teacher = torch.randn(2, *shape)
    loss = DISTLoss(use_sigmoid=use_sigmoid)
    x = student.double().requires_grad_()
    straightforward(loss, x, teacher.double()).backward()
    y = student.clone().requires_grad_()
    loss(y, teacher).backward()
    scale = x.grad.norm().clamp(min=1e-6)
    assert (y.grad - x.grad).norm() / scale < 1e-4


@pytest.mark.parametrize('name', LOSSES)
def test_only_logits_and_a_few_vectors_are_kept(name):
    student, teacher = torch.randn(2, 2, 20, 30, 40, requires_grad=True).unbind()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        LOSSES[name](use_sigmoid=True)(student, teacher)
    whole = [one for one in kept if one.numel() >= student.numel()]
    assert {one.untyped_storage().data_ptr() for one in whole} <= {
        student.untyped_storage().data_ptr(), teacher.untyped_storage().data_ptr()}
    assert sum(one.numel() for one in kept) < 2.4 * student.numel()


def test_sums_over_many_pieces_are_accurate(monkeypatch):
    """The first piece is large; a float32 sum would lose the thousands of small ones after it."""
    monkeypatch.setitem(pieces.PIECE, 'cpu', 2)  # one position of two classes at a time
    torch.manual_seed(0)
    student, teacher = torch.randn(1, 2, 4000) * 1e-2, torch.randn(1, 2, 4000) * 1e-2
    student[..., 0] *= 3e4
    loss = KDLoss(use_sigmoid=True)
    exact = straightforward(loss, student.double(), teacher.double())
    torch.testing.assert_close(loss(student, teacher).double(), exact, rtol=1e-6, atol=0)


def test_moments_of_many_pieces_are_accurate(monkeypatch):
    """Probabilities near 0.5 deviate by thousandths, which float32 sums would lose."""
    monkeypatch.setitem(pieces.PIECE, 'cpu', 2)
    torch.manual_seed(0)
    student, teacher = torch.randn(1, 2, 3000) * 4e-3, torch.randn(1, 2, 3000) * 4e-3
    _, column, seen, _ = closed_form.gather(student, teacher, None, 1., True)
    s, t = (one.sigmoid().double() for one in (student[0], teacher[0]))
    ds, dt = s - s.mean(1, keepdim=True), t - t.mean(1, keepdim=True)
    exact = torch.stack([s.mean(1), t.mean(1), (ds * ds).sum(1), (dt * dt).sum(1),
                         (ds * dt).sum(1)])
    assert seen == 3000
    torch.testing.assert_close(column, exact, rtol=2e-5, atol=1e-12)
