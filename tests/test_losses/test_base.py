"""Properties of every loss: precision, edge cases of the input, levels, and error messages."""
import inspect
from functools import partial

import pytest
import torch

from mmkd.losses import CWDLoss, DISTLoss, KDLoss, LogitLoss, MSELoss

LOSSES = [
    pytest.param(partial(cls, use_sigmoid=sigmoid), id=f'{cls.__name__}-{name}')
    for cls in (DISTLoss, KDLoss)
    for sigmoid, name in ((False, 'softmax'), (True, 'sigmoid'))
]


def check_finite(loss, student, teacher, weight=None):
    student = student.requires_grad_()
    value = loss(student, teacher, weight)
    assert value.dim() == 0
    assert value.isfinite()
    value.backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()
    return value


@pytest.mark.parametrize('make', LOSSES)
@pytest.mark.parametrize('case', ['constant rows', 'constant student', 'equal', 'one class',
                                  'one row', 'huge', 'huge and opposite'])
def test_finite_for(make, case):
    torch.manual_seed(0)
    student, teacher = torch.randn(6, 4), torch.randn(6, 4)
    if case == 'constant rows':
        student, teacher = torch.ones(6, 4), torch.ones(6, 4)
    elif case == 'constant student':
        student = torch.ones(6, 4)
    elif case == 'equal':
        student = teacher.clone()
    elif case == 'one class':
        student, teacher = student[:, :1], teacher[:, :1]
    elif case == 'one row':
        student, teacher = student[:1], teacher[:1]
    elif case.startswith('huge'):
        teacher = 1e4 * teacher.sign()
        student = -teacher if case.endswith('opposite') else 1e4 * student.sign()
    check_finite(make(), student.clone(), teacher)


@pytest.mark.parametrize('make', LOSSES)
@pytest.mark.parametrize('shape', [(0, 4), (0, 4, 3, 3), (2, 4, 0, 3)])
def test_no_position_is_zero_and_attached(make, shape):
    assert check_finite(make(), torch.randn(shape), torch.randn(shape)).item() == 0


@pytest.mark.parametrize('make', LOSSES)
def test_everything_masked_is_zero_and_attached(make):
    value = check_finite(make(), torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3),
                         torch.zeros(2, 3, 3))
    assert value.item() == 0


def test_fully_masked_formula_has_no_gradient():
    """The formula may divide by the sum of the weights, and every value may be NaN."""
    sums = []

    class Formula(LogitLoss):

        def compare_rows(self, student, teacher, weight):
            error = (student - teacher).square().sum(1)
            sums.append(weight.sum().item())
            return (error * weight).sum() / weight.sum() + 1

    student = torch.full((2, 4, 3), float('nan'), requires_grad=True)
    value = Formula()(student, torch.randn(2, 4, 3), torch.zeros(2, 3))
    value.backward()
    assert value == 0
    assert not student.grad.any()
    assert sums == [6]  # the formula never gets weights that are all 0


def test_mmkds_own_weights_are_not_checked():
    loss = KDLoss()
    loss.checks_weights = False
    assert loss(torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([2., -1.])) == 0


@pytest.mark.parametrize('make', LOSSES)
def test_computed_in_float32_under_autocast(make):
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 2, 8, 4, 4) * 4
    expected = make()(student, teacher)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        got = make()(student, teacher)
    assert got.dtype == torch.float32
    assert torch.equal(got, expected)


@pytest.mark.parametrize('make', LOSSES)
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_compared_in_float32(make, dtype):
    torch.manual_seed(0)
    student, teacher = (torch.randn(2, 2, 8, 4, 4) * 4).to(dtype)
    value = check_finite(make(), student.clone(), teacher)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, make()(student.float(), teacher.float()))
    check_finite(make(), torch.full((3, 4), 1e4).to(dtype), torch.full((3, 4), -1e4).to(dtype))


@pytest.mark.parametrize('make', LOSSES)
def test_layout_of_positions_does_not_matter(make):
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 2, 5, 3, 4, dtype=torch.float64)
    weight = torch.rand(2, 3, 4, dtype=torch.float64)
    rows = [x.permute(0, 2, 3, 1).reshape(-1, 5) for x in (student, teacher)]
    loss = make()
    torch.testing.assert_close(loss(student, teacher), loss(*rows))
    torch.testing.assert_close(loss(student, teacher, weight), loss(*rows, weight.flatten()))


@pytest.mark.parametrize('make', LOSSES)
def test_no_gradient_reaches_the_teacher(make):
    student, teacher = (torch.randn(3, 4, requires_grad=True) for _ in range(2))
    make()(student, teacher).backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


@pytest.mark.parametrize('make', LOSSES)
def test_levels_are_compared_one_by_one(make):
    torch.manual_seed(0)
    student = [torch.randn(2, 4, n, n) for n in (4, 2, 1)]
    teacher = [torch.randn(2, 4, n, n) for n in (4, 2, 1)]
    loss = make()
    assert [v.item() for v in loss(student, teacher)] == [
        loss(s, t).item() for s, t in zip(student, teacher)]


@pytest.mark.parametrize('make', LOSSES)
@pytest.mark.parametrize('poison', [float('nan'), float('-inf')])
def test_values_at_masked_positions_do_not_matter(make, poison):
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 5, 4)
    mask = torch.tensor([1., 0., 1., 1., 0.])
    expected = make()(student, teacher, mask)
    student[1], teacher[4] = poison, poison
    assert check_finite(make(), student, teacher, mask).item() == expected.item()


@pytest.mark.parametrize('make', LOSSES)
def test_sides_may_have_different_precisions(make):
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 5, 4)
    expected = make()(student.double(), teacher.double())
    assert make()(student, teacher.double()) == expected
    assert make()(student.double(), teacher) == expected


def test_errors_show_what_was_given():
    loss = KDLoss()
    with pytest.raises(ValueError, match=r'\(2, 3\).*\(2, 4\)'):
        loss(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r'\(2, 5, 5\), but got \(2, 5\)'):
        loss(torch.zeros(2, 3, 5, 5), torch.zeros(2, 3, 5, 5), torch.ones(2, 5))
    with pytest.raises(ValueError, match='2 of the student, 1 of the teacher'):
        loss([torch.zeros(2, 3)] * 2, [torch.zeros(2, 3)])
    with pytest.raises(TypeError, match='Tensor and list'):
        loss(torch.zeros(2, 3), [torch.zeros(2, 3)])
    with pytest.raises(ValueError, match='`tau` must be greater than 0, but got 0'):
        DISTLoss(tau=0)
    with pytest.raises(ValueError, match='weights of 0 or more, but the smallest is -1'):
        loss(torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([1., -1.]))


@pytest.mark.parametrize(('arguments', 'error', 'message'), [
    (dict(tau=float('nan')), ValueError, '`tau` must be finite'),
    (dict(tau='4'), TypeError, "`tau` must be a number, but got '4'"),
    (dict(loss_weight=float('inf')), ValueError, '`loss_weight` must be finite'),
    (dict(beta=None), TypeError, '`beta` must be a number'),
    (dict(use_sigmoid='True'), TypeError, "`use_sigmoid` must be True, False or None, but got 'T"),
])
def test_arguments_are_checked(arguments, error, message):
    with pytest.raises(error, match=message):
        DISTLoss(**arguments)


@pytest.mark.parametrize(('loss', 'defaults'), [
    (DISTLoss, dict(beta=1., gamma=1., tau=1., use_sigmoid=None, loss_weight=1., sync=False)),
    (KDLoss, dict(tau=1., use_sigmoid=None, loss_weight=1., standardize=False)),
    (CWDLoss, dict(tau=4., loss_weight=1.)),
    (MSELoss, dict(loss_weight=1.))], ids=lambda one: getattr(one, '__name__', ''))
def test_defaults_are_those_of_the_papers(loss, defaults):
    """Configs rely on the default values."""
    made = loss()
    assert {name: getattr(made, name) for name in defaults} == defaults
    assert list(inspect.signature(loss).parameters) == list(defaults)


@pytest.mark.parametrize('make', [*LOSSES, MSELoss, CWDLoss])
def test_teacher_and_weights_are_constants(make):
    student, teacher = (torch.randn(2, 4, 3, 3, requires_grad=True) for _ in range(2))
    weight = torch.rand(2, 3, 3, requires_grad=True)
    found = torch.autograd.grad(make()(student, teacher, weight), (student, teacher, weight),
                                allow_unused=True)
    assert found[0].abs().sum() > 0
    assert found[1:] == (None, None)
