"""SKD compared with loops and the authors' numbers."""
import math

import pytest
import torch
from support.authors import cases

from mmkd.losses import KDLoss, SKDLoss


def maps(*shape, seed=0):
    rng = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(*shape, dtype=torch.float64, generator=rng) for _ in range(2))
    return student.requires_grad_(), teacher


def by_loops(student, teacher, height, width):
    """The maximum of each window, normalised by its norm, which is treated as a constant."""
    total = 0.
    for n in range(len(student)):
        similarity = []
        for side in (student[n], teacher[n]):
            parts = []
            for y in range(0, side.shape[1], height):
                for x in range(0, side.shape[2], width):
                    part = torch.stack([one[y:y + height, x:x + width].max() for one in side])
                    parts.append(part / part.detach().square().sum().sqrt())
            similarity.append([[(a * b).sum() for b in parts] for a in parts])
        count = len(similarity[0])
        total += sum((similarity[0][i][j] - similarity[1][i][j])**2 for i in range(count)
                     for j in range(count)) / count**2
    return total / len(student)


@pytest.mark.parametrize(('window', 'size', 'steps'), [
    (None, (6, 8), (3, 4)), (None, (5, 7), (2, 3)), (None, (1, 3), (1, 1)), (2, (4, 5), (2, 2)),
    (9, (3, 3), (9, 9))])
def test_it_agrees_with_loops(window, size, steps):
    student, teacher = maps(2, 5, *size)
    found, expected = SKDLoss(window)(student, teacher), by_loops(student, teacher, *steps)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)
    gradients = [torch.autograd.grad(one, student)[0] for one in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize('case', range(2))
def test_numbers_of_the_authors(case):
    """The authors sum over images, mmkd averages."""
    _, inputs, outputs = cases('skd')[case]
    student, teacher = inputs['student'].requires_grad_(), inputs['teacher']
    value = SKDLoss()(student, teacher)
    torch.testing.assert_close(value, outputs['pair'], rtol=1e-5, atol=0)
    gradient, = torch.autograd.grad(value, student)
    torch.testing.assert_close(gradient, outputs['pair_gradient'], rtol=1e-4, atol=1e-7)
    images = len(student)
    pixel, = torch.autograd.grad(images * KDLoss()(student, teacher), student)
    torch.testing.assert_close(pixel, outputs['pixel_gradient'], rtol=1e-4, atol=1e-7)


def test_channels_and_scale_may_differ():
    student, teacher = maps(2, 4, 6, 6)
    wide = torch.cat([teacher, teacher], 1)  # the cosines are those of one copy
    torch.testing.assert_close(SKDLoss()(student, wide), SKDLoss()(student, 7 * teacher),
                               rtol=1e-6, atol=0)
    assert SKDLoss()(teacher.requires_grad_(), wide) < 1e-12
    assert wide.grad is None


def test_what_has_nothing_to_compare():
    """For zero vectors the value and the gradient are finite. Without images the loss is 0."""
    student = torch.zeros(1, 3, 4, 4, requires_grad=True)
    value = SKDLoss()(student, torch.randn(1, 3, 4, 4))
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()
    none = torch.zeros(0, 3, 4, 4, requires_grad=True)
    value = SKDLoss()(none, none.detach())
    value.backward()
    assert value == 0
    with pytest.raises(ValueError, match=r'SKDLoss compares maps \(N, C, H, W\), but got \(2, 3\)'):
        SKDLoss()(torch.zeros(2, 3), torch.zeros(2, 3))
    for window, error in ((0, ValueError), (2.5, TypeError)):
        with pytest.raises(error, match='`window` must be'):
            SKDLoss(window)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    student, teacher = maps(2, 5, 6, 6)
    expected = SKDLoss()(student, teacher).item()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = SKDLoss()((student.detach()).to(dtype), teacher.to(dtype))
    assert found.dtype == torch.float32
    assert math.isclose(found.item(), expected, rel_tol=2e-2)
