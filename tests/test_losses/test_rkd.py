"""RKDLoss compared with loops and the authors' numbers."""
import math

import pytest
import torch
from support.authors import cases

from mmkd import RKDLoss


def huber(x):
    return x * x / 2 if abs(x) < 1 else abs(x) - 0.5


def by_loops(student, teacher):
    """The distances of all pairs of points and the angles of all triples."""
    def distance(a, b):
        return math.dist(a.tolist(), b.tolist())

    def cosine(at, one, other):
        lengths = distance(at, one) * distance(at, other)
        return float((one - at) @ (other - at)) / lengths if lengths else 0.

    count = len(student)
    pairs = [(i, j) for i in range(count) for j in range(count)]
    means = [sum(distance(side[i], side[j]) for i, j in pairs) / (count**2 - count)
             for side in (student, teacher)]
    far = sum(huber(distance(student[i], student[j]) / means[0] -
                    distance(teacher[i], teacher[j]) / means[1]) for i, j in pairs) / count**2
    angle = sum(huber(cosine(student[i], student[j], student[k]) -
                      cosine(teacher[i], teacher[j], teacher[k]))
                for i, j in pairs for k in range(count)) / count**3
    return dict(distance=25 * far, angle=50 * angle)


@pytest.mark.parametrize('images', [3, 5])
def test_it_is_the_definition(images):
    torch.manual_seed(0)
    student, teacher = torch.randn(images, 3).double() + 2, 9 * torch.randn(images, 7).double()
    found = RKDLoss()(student, teacher)
    assert {name: part.item() for name, part in found.items()} == pytest.approx(
        by_loops(student, teacher), rel=1e-9)


@pytest.mark.parametrize(('settings', 'inputs', 'outputs'), cases('rkd'))
def test_numbers_of_the_authors(settings, inputs, outputs):
    student = inputs['student'].requires_grad_()
    found = RKDLoss(distance=1., angle=1.)(student, inputs['teacher'])
    for name, value in found.items():
        torch.testing.assert_close(value, outputs[name]['value'], rtol=1e-10, atol=1e-12)
        gradient, = torch.autograd.grad(value, student, retain_graph=True)
        torch.testing.assert_close(gradient, outputs[name]['gradient'], rtol=1e-9, atol=1e-11)


def test_weights_of_the_parts():
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 3), torch.randn(4, 5)
    parts = RKDLoss(1., 1.)(student, teacher)
    weighted = RKDLoss(3., 0.5, loss_weight=2.)(student, teacher)
    assert weighted['distance'].item() == pytest.approx(6 * parts['distance'].item())
    assert weighted['angle'].item() == pytest.approx(parts['angle'].item())
    assert RKDLoss(angle=0.)(student, teacher)['angle'] == 0
    with pytest.raises(ValueError, match='`angle` must be 0 or more'):
        RKDLoss(angle=-1.)


def test_two_equal_images_have_no_direction():
    """Their difference is a rounding error; normalising it would give a random direction."""
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 3), torch.randn(4, 5)
    student[1] = student[0]
    expected = by_loops(student.double(), teacher.double())
    found = RKDLoss()(student, teacher)
    assert {name: part.item() for name, part in found.items()} == pytest.approx(expected, rel=1e-4)
    student[1] = torch.nextafter(student[0], torch.tensor(float('inf')))
    gradient, = torch.autograd.grad(RKDLoss()(student.requires_grad_(), teacher)['angle'], student)
    assert gradient.abs().max() < 100
