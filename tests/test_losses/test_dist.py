"""DISTLoss compared with its definition in slow loops and with numbers computed separately."""
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.authors import cases

from mmkd.losses import DISTLoss, LogitLoss

STUDENT = torch.tensor([[1, 2, 0, -1], [0.5, 0.5, 3, 0], [-2, 1, 0, 1]], dtype=torch.float64)
TEACHER = torch.tensor([[2, 1, 0, -1], [0, 0, 4, 1], [-1, 2, 0, 0]], dtype=torch.float64)


def slow_pearson(a, b):
    a, b = a - a.mean(), b - b.mean()
    return (a * b).sum() / (np.sqrt((a * a).sum()) * np.sqrt((b * b).sum()) + 1e-8)


def slow_dist(student, teacher, beta=1., gamma=1., tau=1., use_sigmoid=False):
    """The definition in NumPy, one row and one column at a time. Rows are positions."""
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
    """Convert (N, C, H, W) to rows with loops."""
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
def test_affine_map_of_the_probabilities_has_no_loss(scale, seed):
    """As the paper states, an affine map of the probabilities with positive scale has no loss."""
    rng = torch.Generator().manual_seed(seed)
    p = torch.rand(6, 5, generator=rng, dtype=torch.float64) * 0.9 + 0.05
    teacher, student = torch.logit(p), torch.logit(scale * p + 0.02)
    assert DISTLoss(use_sigmoid=True)(student, teacher).item() == pytest.approx(0, abs=1e-4)


def test_bounds_are_met_by_equal_and_opposite_tables():
    p = torch.tensor([[0.1, 0.9, 0.4], [0.8, 0.2, 0.3]], dtype=torch.float64)
    loss = DISTLoss(use_sigmoid=True)
    assert loss(torch.logit(p), torch.logit(p)).item() == pytest.approx(0, abs=1e-6)
    assert loss(torch.logit(1 - p), torch.logit(p)).item() == pytest.approx(4, abs=1e-6)


# --- fewer than three columns -------------------------------------------------------------------


@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize(('use_sigmoid', 'columns'), [(True, 1), (True, 2), (False, 2)])
def test_over_fewer_than_three_columns_only_classes_are_compared(use_sigmoid, columns, weighted):
    """Pearson's correlation of two numbers is always 1 or -1, that of one number is 0."""
    generator = torch.Generator().manual_seed(columns)
    student, teacher = torch.randn(2, 7, columns, generator=generator, dtype=torch.float64)
    weight = torch.arange(7) % 3 if weighted else None
    rows = [x.repeat_interleave(weight, 0) if weighted else x for x in (student, teacher)]
    expected = slow_dist(*(x.numpy() for x in rows), beta=0., gamma=0.7, tau=2.,
                         use_sigmoid=use_sigmoid)
    loss = DISTLoss(0.5, 0.7, tau=2., use_sigmoid=use_sigmoid)
    leaf = student.clone().requires_grad_()
    value = loss(leaf, teacher, weight)
    assert value.item() == pytest.approx(expected, rel=1e-6)
    value.backward()
    assert (leaf.grad != 0).any()
    plain = student.clone().requires_grad_()
    by_autograd = LogitLoss.compare(loss, plain, teacher, weight if weight is None else
                                    weight.double())
    torch.testing.assert_close(value, by_autograd)
    by_autograd.backward()
    torch.testing.assert_close(leaf.grad, plain.grad)


@pytest.mark.parametrize(('use_sigmoid', 'columns'), [
    (True, 1), (True, 2), (True, 3), (False, 1), (False, 2), (False, 3)])
def test_equal_inputs_give_0_over_any_number_of_columns(use_sigmoid, columns):
    student = torch.randn(9, columns, generator=torch.Generator().manual_seed(0)).double()
    loss = DISTLoss(use_sigmoid=use_sigmoid)
    assert loss(student, student).item() == pytest.approx(0, abs=1e-6)


def test_softmax_over_one_column_is_constant():
    student = torch.randn(5, 1, requires_grad=True)
    value = DISTLoss()(student, torch.randn(5, 1))
    assert value.item() == 0
    value.backward()
    assert (student.grad == 0).all()


@pytest.mark.parametrize(('arguments', 'columns', 'says'), [
    (dict(use_sigmoid=True), 1, ['inter-class part, which is constant over 1 column, and only '
                                 'compares within classes; mmkd.KDLoss']),
    (dict(), 2, ['constant over 2 columns, and only compares within classes; mmkd.KDLoss']),
    (dict(gamma=0.), 2, ['constant over 2 columns, and is 0 with `gamma=0`']),
    (dict(), 1, ['softmax over 1 column is always 1; write `use_sigmoid=True`']),
    (dict(), 3, []),
    (dict(use_sigmoid=True), 9, []),
    (dict(beta=0.), 2, []),
])
def test_notes_say_what_is_left_out(arguments, columns, says):
    notes = DISTLoss(**arguments).notes(columns)
    assert len(notes) == len(says)
    for note, part in zip(notes, says):
        assert part in note


def test_the_authors_numbers():
    """For rows and for maps."""
    for setting, inputs, outputs in cases('dist'):
        student = inputs['student'].requires_grad_()
        value = DISTLoss(**setting)(student, inputs['teacher'])
        value.backward()
        torch.testing.assert_close(value, outputs['value'], rtol=1e-10, atol=0)
        torch.testing.assert_close(student.grad, outputs['gradient'], rtol=1e-9, atol=1e-12)
