"""DISTLoss against the definition written as slow loops, and against numbers worked out apart."""
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkd.losses import DISTLoss, closed_form
from mmkd.losses.base import LogitLoss

STUDENT = torch.tensor([[1, 2, 0, -1], [0.5, 0.5, 3, 0], [-2, 1, 0, 1]], dtype=torch.float64)
TEACHER = torch.tensor([[2, 1, 0, -1], [0, 0, 4, 1], [-1, 2, 0, 0]], dtype=torch.float64)


def slow_pearson(a, b):
    a, b = a - a.mean(), b - b.mean()
    return (a * b).sum() / (np.sqrt((a * a).sum()) * np.sqrt((b * b).sum()) + 1e-8)


def slow_dist(student, teacher, beta=1., gamma=1., tau=1., use_sigmoid=False):
    """The definition in NumPy, one row and one column at a time; rows are positions."""
    def act(x):
        x = x / tau
        if use_sigmoid:
            return 1 / (1 + np.exp(-x))
        x = np.exp(x - x.max(1, keepdims=True))
        return x / x.sum(1, keepdims=True)

    p, q = act(student), act(teacher)
    inter = 1 - np.mean([slow_pearson(p[m], q[m]) for m in range(len(p))])
    intra = 1 - np.mean([slow_pearson(p[:, k], q[:, k]) for k in range(p.shape[1])])
    return tau**2 * (beta * inter + gamma * intra)


def rows_of(x):
    """(N, C, H, W) to rows, by loops."""
    n, _, h, w = x.shape
    return np.stack([x[i, :, y, z] for i in range(n) for y in range(h) for z in range(w)])


@pytest.mark.parametrize(('use_sigmoid', 'inter', 'intra'), [
    (False, 0.371542, 0.161510),
    (True, 0.205480, 0.273580),
])
def test_known_numbers(use_sigmoid, inter, intra):
    def loss(beta, gamma):
        return DISTLoss(beta, gamma, use_sigmoid=use_sigmoid)(STUDENT, TEACHER).item()
    assert loss(1, 0) == pytest.approx(inter, abs=1e-6)
    assert loss(0, 1) == pytest.approx(intra, abs=1e-6)
    assert loss(1, 1) == pytest.approx(inter + intra, abs=1e-6)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('use_sigmoid', [False, True])
@pytest.mark.parametrize('shape', [(5, 7), (2, 6, 3, 4)])
def test_matches_the_slow_definition(shape, use_sigmoid, dtype):
    rng = np.random.default_rng(len(shape))
    student, teacher = rng.normal(size=shape) * 2, rng.normal(size=shape) * 2
    rows = (student, teacher) if len(shape) == 2 else (rows_of(student), rows_of(teacher))
    expected = 0.7 * slow_dist(*rows, beta=0.5, gamma=2., tau=3., use_sigmoid=use_sigmoid)
    loss = DISTLoss(0.5, 2., 3., use_sigmoid, loss_weight=0.7)
    got = loss(torch.tensor(student, dtype=dtype), torch.tensor(teacher, dtype=dtype))
    assert got.dtype == dtype
    assert got.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('use_sigmoid', [False, True])
@pytest.mark.parametrize('weighted', [False, True])
def test_gradient_is_the_derivative(use_sigmoid, weighted):
    torch.manual_seed(0)
    student = torch.randn(2, 4, 2, 3, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(2, 4, 2, 3, dtype=torch.float64)
    weight = torch.rand(2, 2, 3, dtype=torch.float64) if weighted else None
    loss = DISTLoss(tau=2., use_sigmoid=use_sigmoid)
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher, weight), student)


@pytest.mark.parametrize('use_sigmoid', [False, True])
def test_mask_equals_leaving_the_rows_out(use_sigmoid):
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 9, 5, dtype=torch.float64)
    mask = torch.tensor([1, 0, 1, 1, 0, 1, 0, 1, 1]).bool()
    loss = DISTLoss(use_sigmoid=use_sigmoid)
    torch.testing.assert_close(loss(student, teacher, mask), loss(student[mask], teacher[mask]))


def test_integer_weight_equals_repeated_rows():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    times = torch.tensor([1, 3, 2, 0])
    repeated = [x.repeat_interleave(times, 0) for x in (student, teacher)]
    loss = DISTLoss()
    torch.testing.assert_close(loss(student, teacher, times), loss(*repeated))


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(0.1, 0.9), seed=st.integers(0, 1000))
def test_affine_map_of_the_probabilities_costs_nothing(scale, seed):
    """The paper's claim: matched is what is left of P when scale and shift are taken away."""
    rng = torch.Generator().manual_seed(seed)
    p = torch.rand(6, 5, generator=rng, dtype=torch.float64) * 0.9 + 0.05
    teacher, student = torch.logit(p), torch.logit(scale * p + 0.02)
    assert DISTLoss(use_sigmoid=True)(student, teacher).item() == pytest.approx(0, abs=1e-4)


def test_bounds_are_met_by_equal_and_opposite_tables():
    p = torch.tensor([[0.1, 0.9], [0.8, 0.2]], dtype=torch.float64)
    loss = DISTLoss(use_sigmoid=True)
    assert loss(torch.logit(p), torch.logit(p)).item() == pytest.approx(0, abs=1e-6)
    assert loss(torch.logit(1 - p), torch.logit(p)).item() == pytest.approx(4, abs=1e-6)


def straightforward(loss, student, teacher, weight=None):
    """By autograd, as LogitLoss computes any formula on rows."""
    return loss.loss_weight * LogitLoss.compare(loss, student, teacher, weight)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), use_sigmoid=st.booleans(), tau=st.sampled_from([1., 4.]),
       masked=st.booleans(), piece=st.sampled_from([1, 7, 64, 1 << 18]),
       shape=st.sampled_from([(3, 5), (2, 3, 4, 5), (1, 7, 11), (2, 1, 3, 3), (4, 6, 1, 1)]))
def test_closed_form_is_the_straightforward_one(seed, use_sigmoid, tau, masked, piece, shape):
    """Value and gradient, whatever the pieces: one position, odd ones, all at once."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (3 * torch.randn(shape, generator=generator, dtype=torch.float64)
                        for _ in range(2))
    weight = None
    if masked:
        weight = torch.rand(shape[0], *shape[2:], generator=generator, dtype=torch.float64)
        weight = weight * (weight > 0.3)
    loss = DISTLoss(0.5, 2., tau, use_sigmoid, loss_weight=3.)
    found = []
    before, closed_form.PIECE['cpu'] = closed_form.PIECE['cpu'], piece
    try:
        for form in (lambda *args: loss(*args), lambda *args: straightforward(loss, *args)):
            x = student.clone().requires_grad_()
            value = form(x, teacher, weight)
            value.backward()
            found.append((value.detach(), x.grad))
    finally:
        closed_form.PIECE['cpu'] = before
    # A correlation is 0 / 0 where a class is constant, and its gradient of the size of 1 / eps.
    scale = found[1][1].abs().max().clamp(min=1e-3)
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found[0][1] / scale, found[1][1] / scale, rtol=1e-7, atol=1e-7)


def test_closed_form_in_float32_is_as_near_as_the_straightforward_one():
    """Many positions of nearly equal, small probabilities, as a new detector gives them."""
    torch.manual_seed(0)
    student, teacher = (torch.randn(2, 80, 40, 50) * 0.1 - 4.6 for _ in range(2))
    loss = DISTLoss(use_sigmoid=True)
    x = student.double().requires_grad_()
    exact = straightforward(loss, x, teacher.double())
    exact.backward()
    for form in (loss, lambda *args: straightforward(loss, *args)):
        y = student.clone().requires_grad_()
        value = form(y, teacher)
        value.backward()
        assert value.item() == pytest.approx(exact.item(), rel=1e-5)
        assert (y.grad - x.grad).norm() / x.grad.norm() < 1e-5


def test_closed_form_keeps_the_logits_and_a_few_vectors():
    student, teacher = torch.randn(2, 2, 20, 30, 40, requires_grad=True).unbind()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        DISTLoss(use_sigmoid=True)(student, teacher)
    whole = [one for one in kept if one.numel() >= student.numel()]
    assert {one.untyped_storage().data_ptr() for one in whole} <= {
        student.untyped_storage().data_ptr(), teacher.untyped_storage().data_ptr()}
