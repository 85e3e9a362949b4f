"""KDLoss compared with its definition in slow loops and with numbers computed separately."""
import math

import numpy as np
import pytest
import torch

from mmkd.losses import KDLoss

STUDENT = torch.tensor([[1, 2, 0, -1], [0.5, 0.5, 3, 0], [-2, 1, 0, 1]], dtype=torch.float64)
TEACHER = torch.tensor([[2, 1, 0, -1], [0, 0, 4, 1], [-1, 2, 0, 0]], dtype=torch.float64)


def slow_kd(student, teacher, tau, use_sigmoid):
    """The definition for one position and one class at a time, with Python floats."""
    total = 0.
    for s, t in zip(student / tau, teacher / tau):
        if use_sigmoid:
            for a, b in zip(s, t):
                p, q = 1 / (1 + math.exp(-a)), 1 / (1 + math.exp(-b))
                total += q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p))
        else:
            p, q = (np.exp(x) / np.exp(x).sum() for x in (s, t))
            total += sum(b * math.log(b / a) for a, b in zip(p, q))
    return tau**2 * total / len(student)


@pytest.mark.parametrize(('tau', 'expected'), [(1, 0.254935), (4, 0.305789)])
def test_known_numbers(tau, expected):
    assert KDLoss(tau)(STUDENT, TEACHER).item() == pytest.approx(expected, abs=1e-6)


def test_binary_case_by_hand():
    # Teacher 3/4, student 1/2: 3/4 log(3/2) + 1/4 log(1/2) = 0.130812
    student, teacher = torch.zeros(1, 1), torch.full((1, 1), math.log(3))
    assert KDLoss(use_sigmoid=True)(student, teacher).item() == pytest.approx(0.130812, abs=1e-6)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('use_sigmoid', [False, True])
@pytest.mark.parametrize('tau', [1., 3.])
def test_map_is_the_mean_over_positions_of_all_images(tau, use_sigmoid, dtype):
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(2, 2, 5, 3, 4)) * 2
    rows = [np.stack([x[n, :, y, z] for n in range(2) for y in range(3) for z in range(4)])
            for x in (student, teacher)]
    got = KDLoss(tau, use_sigmoid, loss_weight=0.3)(
        torch.tensor(student, dtype=dtype), torch.tensor(teacher, dtype=dtype))
    assert got.item() == pytest.approx(0.3 * slow_kd(*rows, tau, use_sigmoid), rel=1e-5)


@pytest.mark.parametrize('use_sigmoid', [False, True])
@pytest.mark.parametrize('weighted', [False, True])
def test_gradient_is_the_derivative(use_sigmoid, weighted):
    torch.manual_seed(0)
    student = torch.randn(2, 4, 2, 3, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(2, 4, 2, 3, dtype=torch.float64)
    weight = torch.rand(2, 2, 3, dtype=torch.float64) if weighted else None
    loss = KDLoss(2., use_sigmoid)
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher, weight), student)


def test_gradient_at_tau_1_is_the_probability_difference():
    torch.manual_seed(0)
    student = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(4, 3, dtype=torch.float64)
    KDLoss()(student, teacher).backward()
    torch.testing.assert_close(student.grad, (student.softmax(1) - teacher.softmax(1)) / 4)


def test_mask_equals_leaving_the_rows_out():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 6, 5, dtype=torch.float64)
    mask = torch.tensor([1, 0, 1, 1, 0, 1]).bool()
    torch.testing.assert_close(KDLoss()(student, teacher, mask),
                               KDLoss()(student[mask], teacher[mask]))


def test_limit_of_a_large_temperature():
    """Hinton et al., equation 4: L -> |z_S - z_T|² / (2 C) for zero-mean logits."""
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 6, 5, dtype=torch.float64)
    student, teacher = student - student.mean(1, True), teacher - teacher.mean(1, True)
    expected = (student - teacher).square().sum(1).mean() / (2 * 5)
    assert KDLoss(tau=1e3)(student, teacher).item() == pytest.approx(expected.item(), rel=1e-2)
