"""SPLoss compared with loops, RepDistiller's numbers, and the map size of its authors."""
import pytest
import torch
from support.authors import cases

from mmkd import SPLoss


def by_loops(student, teacher):
    def similarities(rows):
        products = [[float(sum(a * b)) for b in rows] for a in rows]
        return [[one / sum(v * v for v in line)**0.5 for one in line] for line in products]
    own, other = similarities(student), similarities(teacher)
    return sum((a - b)**2 for lines in zip(own, other) for a, b in zip(*lines)) / len(own)**2


def test_it_is_the_definition():
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 3).double(), torch.randn(4, 7).double()
    assert SPLoss(loss_weight=3.)(student, teacher).item() == pytest.approx(
        3 * by_loops(student, teacher), rel=1e-9)


@pytest.mark.parametrize(('settings', 'inputs', 'outputs'), cases('sp'))
def test_numbers_of_the_authors(settings, inputs, outputs):
    student = inputs['student'].requires_grad_()
    value = SPLoss(grid=None)(student, inputs['teacher'])
    torch.testing.assert_close(value, outputs['value'].squeeze(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(torch.autograd.grad(value, student)[0], outputs['gradient'],
                               rtol=1e-9, atol=1e-12)


def test_maps_of_the_authors_size_are_flattened_as_they_are():
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 3, 8, 8), torch.randn(4, 5, 8, 8)
    torch.testing.assert_close(SPLoss()(student, teacher), SPLoss(grid=None)(student, teacher))
