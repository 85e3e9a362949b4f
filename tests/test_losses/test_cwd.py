"""CWD compared with loops and known values; its invariances, and its two implementations."""
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.authors import cases

from mmkd import CWDLoss
from mmkd.losses import METHODS
from mmkd.losses.cwd import divergence
from mmkd.losses.fast.pieces import PIECE

S = torch.tensor([[1., 2, 0, -1], [.5, .5, 3, 0], [-2, 1, 0, 1]], dtype=torch.float64)
T = torch.tensor([[2., 1, 0, -1], [0, 0, 4, 1], [-1, 2, 0, 0]], dtype=torch.float64)


def by_loops(student, teacher, tau, weight=None):
    """The formula on maps (N, C, H, W); a weight is the number of times that a position counts."""
    total, maps = 0., 0
    for n in range(len(student)):
        w = [1.] * student[n, 0].numel() if weight is None else weight[n].flatten().tolist()
        if not any(w):
            continue
        for s, t in zip(student[n].flatten(1).tolist(), teacher[n].flatten(1).tolist()):
            sums = [sum(k * math.exp(v / tau) for k, v in zip(w, x)) for x in (s, t)]
            for k, a, b in zip(w, s, t):
                p, q = math.exp(b / tau) / sums[1], math.exp(a / tau) / sums[0]
                total += k * p * math.log(p / q)
            maps += 1
    return tau**2 * total / maps


def maps(*shape, dtype=torch.float64, seed=0):
    return torch.randn(2, *shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def test_the_papers_number():
    """The matrix has 3 channels with 4 positions."""
    value = CWDLoss(tau=1)(S.reshape(1, 3, 2, 2), T.reshape(1, 3, 2, 2))
    assert value.item() == pytest.approx(0.254935, abs=1e-6)


def test_mmrazors_numbers():
    for setting, inputs, outputs in cases('cwd'):
        student = inputs['student'].requires_grad_()
        value = CWDLoss(**setting)(student, inputs['teacher'])
        value.backward()
        torch.testing.assert_close(value, outputs['value'], rtol=1e-10, atol=0)
        torch.testing.assert_close(student.grad, outputs['gradient'], rtol=1e-9, atol=1e-12)


def test_values_of_the_families():
    """mmrazor's values for the logits of dense heads, the authors' values for segmentors."""
    found = {kind: [(one['on'], one['tau'], one['loss_weight'])
                    for one in METHODS['cwd'].entries(kind)] for kind in (
                        'dense', 'segmentor', 'roi')}
    assert found == dict(dense=[('cls', 1., 5.)], segmentor=[('cls', 4., 3.)],
                         roi=[(('neck', 'backbone'), 1., 10.)])


@pytest.mark.parametrize('tau', [1., 4.])
@pytest.mark.parametrize('weighted', [False, True])
def test_value_by_loops(tau, weighted):
    student, teacher = maps(3, 4, 2, 5)
    weight = torch.rand(3, 2, 5, dtype=torch.float64) if weighted else None
    if weighted:
        weight[0, 1], weight[2] = 0, 0
    expected = by_loops(student, teacher, tau, weight)
    assert CWDLoss(tau, loss_weight=3)(student, teacher, weight).item() == pytest.approx(
        3 * expected)


@pytest.mark.parametrize('weighted', [False, True])
def test_gradient(weighted):
    student, teacher = maps(2, 3, 2, 3)
    weight = torch.tensor([[[1, 0, 2], [.5, 1, 1]], [[0] * 3] * 2]).double() if weighted else None
    assert torch.autograd.gradcheck(lambda s: CWDLoss(2.)(s, teacher, weight),
                                    student.requires_grad_())


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 9), st.floats(.3, 8),
       st.sampled_from([7, 20, 1 << 18]), st.booleans())
def test_in_pieces_is_the_formula(count, channels, length, tau, piece, weighted):
    student, teacher = maps(count, channels, 1, length)
    weight = torch.rand(count, 1, length, dtype=torch.float64) if weighted else None
    student.requires_grad_()
    rows = [divergence(student[n, :, 0], teacher[n, :, 0],
                       None if weight is None else weight[n, 0], tau)
            for n in range(count)]
    expected = tau**2 * torch.stack(rows).mean()
    wanted, = torch.autograd.grad(expected, student)
    before, PIECE['cpu'] = PIECE['cpu'], piece
    try:
        found = CWDLoss(tau)(student, teacher, weight)
        gradient, = torch.autograd.grad(found, student)
    finally:
        PIECE['cpu'] = before
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, wanted)


def test_a_constant_of_a_channel_does_not_matter():
    student, teacher = maps(2, 3, 4, 4)
    shifted = student + 5 * torch.arange(3.).view(1, 3, 1, 1)
    torch.testing.assert_close(CWDLoss()(shifted, teacher), CWDLoss()(student, teacher))
    assert CWDLoss()(teacher + 2, teacher).item() == pytest.approx(0, abs=1e-12)


def test_anchors_split_or_joint_are_the_same():
    student, teacher = maps(2, 6, 4, 4)
    split = [x.reshape(4, 3, 4, 4) for x in (student, teacher)]
    torch.testing.assert_close(CWDLoss()(*split), CWDLoss()(student, teacher))


def test_a_mask_leaves_positions_out():
    student, teacher = maps(2, 3, 1, 6)
    mask = torch.tensor([1., 0, 1, 1, 0, 1]).expand(2, 1, 6)
    kept = mask[0, 0] > 0
    expected = CWDLoss()(student[..., kept], teacher[..., kept])
    student[..., 1], teacher[..., 4] = float('nan'), float('inf')
    student.requires_grad_()
    value = CWDLoss()(student, teacher, mask)
    torch.testing.assert_close(value, expected)
    value.backward()
    assert student.grad.isfinite().all()
    assert (student.grad[..., ~kept] == 0).all()


@pytest.mark.parametrize('case', ['constant', 'one position', 'one channel', 'huge', 'opposite',
                                  'no channel', 'no image', 'no position', 'all masked'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_finite_for(case, dtype):
    student, teacher = maps(2, 3, 4, 4, dtype=torch.float32)
    weight = torch.zeros(2, 4, 4) if case == 'all masked' else None
    if case == 'constant':
        student = torch.ones_like(student)
    elif case == 'one position':
        student, teacher = student[..., :1, :1], teacher[..., :1, :1]
    elif case == 'one channel':
        student, teacher = student[:, :1], teacher[:, :1]
    elif case in ('huge', 'opposite'):
        teacher = 1e4 * teacher.sign()
        student = -teacher if case == 'opposite' else 1e4 * student.sign()
    elif case.startswith('no '):
        which = ['image', 'channel', 'position'].index(case[3:])
        student, teacher = (x.narrow(which, 0, 0) for x in (student, teacher))
    student = student.to(dtype, copy=True).requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = CWDLoss()(student, teacher.to(dtype), weight)
    assert value.dtype == torch.float32
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()
    if case in ('one position', 'all masked') or case.startswith('no '):
        assert value == 0


def test_the_teacher_gets_no_gradient():
    student, teacher = maps(1, 2, 3, 1)
    teacher.requires_grad_()
    CWDLoss()(student.clone().requires_grad_(), teacher).backward()
    assert teacher.grad is None


def test_vectors_and_sets_are_refused():
    for shape in ((3, 4), (1, 3, 4)):
        with pytest.raises(ValueError, match=rf'maps .*, but got \({str(shape)[1:-1]}\); use '):
            CWDLoss()(S.reshape(shape), T.reshape(shape))
    with pytest.raises(ValueError, match='`tau` must be greater than 0, but got 0'):
        CWDLoss(tau=0)
