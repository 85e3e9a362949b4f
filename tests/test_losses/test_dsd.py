"""DSD compared with loops and the numbers of CIRKD's implementation."""
import math

import pytest
import torch
from support.authors import cases

from mmkd.losses import DSDLoss


def maps(sizes=((4, 6), (4, 6), (4, 6)), widths=(2, 5, 3), seed=0):
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(2, width, *size, dtype=torch.float64, generator=rng)
            for width, size in zip(widths, sizes)]


def called(student, teacher, **settings):
    return DSDLoss(**settings)(student[-1], teacher[-1], student_also=student[:-1],
                               teacher_also=teacher[:-1])


def unit(values):
    length = sum(value**2 for value in values)**0.5
    return [value / length for value in values]


def pixel_by_loops(student, teacher):
    total, count = 0., 0
    for later in range(len(student)):
        for earlier in range(later):
            for n in range(2):
                pair = []
                for side in (student, teacher):
                    attention = []
                    for layer in (earlier, later):
                        one = side[layer][n]
                        attention.append(unit([
                            sum(one[c, y, x]**2 for c in range(len(one))) / len(one)
                            for y in range(one.shape[1]) for x in range(one.shape[2])]))
                    pair.append(unit([b - a for a, b in zip(*attention)]))
                total += sum((s - t)**2 for s, t in zip(*pair)) / len(pair[0]) / 2
            count += 1
    return total / count


def category_by_loops(student, teacher, tau):
    total = 0.
    for n in range(2):
        similarity = []
        for side in (student[n], teacher[n]):
            rows = []
            for one in side:
                pooled = [(one[y:y + 2, x:x + 2].mean() / tau).exp()
                          for y in range(0, one.shape[0], 2) for x in range(0, one.shape[1], 2)]
                rows.append([value / sum(pooled) for value in pooled])
            similarity.append([[sum(p * q for p, q in zip(a, b)) for b in rows] for a in rows])
        classes = len(similarity[0])
        total += sum((similarity[0][c][d] - similarity[1][c][d])**2 for c in range(classes)
                     for d in range(classes)) / classes**2 / 2
    return total


@pytest.mark.parametrize(('size', 'tau'), [((4, 6), 4.), ((3, 5), 1.5)])
def test_it_agrees_with_loops(size, tau):
    student, teacher = maps((size, ) * 3), maps((size, ) * 3, seed=1)
    student = [one.requires_grad_() for one in student]
    found = called(student, teacher, tau=tau)
    for part, expected in (('pixel', 1000 * pixel_by_loops(student, teacher)),
                           ('category', 10 * category_by_loops(student[-1], teacher[-1], tau))):
        torch.testing.assert_close(found[part], expected)
        mine, wanted = (torch.autograd.grad(one, student, allow_unused=True, retain_graph=True)
                        for one in (found[part], expected))
        for one, other in zip(mine, wanted):
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(one, other)


@pytest.mark.parametrize('case', range(2))
def test_numbers_of_the_implementation_in_cirkd(case):
    _, inputs, outputs = cases('dsd')[case]
    student = [one.requires_grad_() for one in inputs['student']]
    found = called(student, inputs['teacher'], pixel_weight=1., category_weight=1.)
    for part in ('pixel', 'category'):
        torch.testing.assert_close(found[part], outputs[part], rtol=1e-9, atol=0)
    gradients = torch.autograd.grad(found['pixel'], student, retain_graph=True)
    for one, other in zip(gradients, outputs['pixel_gradients']):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-12)
    gradient, = torch.autograd.grad(found['category'], student[-1])
    torch.testing.assert_close(gradient, outputs['category_gradient'], rtol=1e-8, atol=1e-14)


def test_scale_of_a_layer_and_offset_of_a_class_do_not_count():
    student, teacher = maps(), maps(seed=1)
    expected = called(student, teacher)
    scaled = [one * (7 if number < 2 else 1) for number, one in enumerate(student)]
    torch.testing.assert_close(called(scaled, teacher)['pixel'], expected['pixel'])
    moved = [*student[:-1], student[-1] + torch.arange(3.)[:, None, None]]
    torch.testing.assert_close(called(moved, teacher)['category'], expected['category'])


def test_maps_of_other_sizes_and_channels():
    """Student and teacher may have different channels."""
    student = [one.requires_grad_() for one in maps(((2, 3), (8, 12), (4, 6)))]
    teacher = maps(((2, 3), (4, 6), (4, 6)), widths=(7, 4, 3), seed=1)
    sum(called(student, teacher).values()).backward()
    assert all(one.grad.isfinite().all() and one.grad.abs().sum() > 0 for one in student)
    assert all(one.grad is None for one in teacher)


def test_nothing_to_compare_and_what_is_refused():
    student = [torch.zeros(0, 3, 4, 4, requires_grad=True) for _ in range(2)]
    parts = called(student, [one.detach() for one in student])
    assert list(parts.values()) == [0, 0]
    sum(parts.values()).backward()
    zeros = [torch.zeros(1, 3, 4, 4, requires_grad=True) for _ in range(2)]
    sum(called(zeros, [one.detach() for one in zeros]).values()).backward()
    assert all(one.grad is None or one.grad.isfinite().all() for one in zeros)
    with pytest.raises(ValueError, match=r"maps \(N, C, H, W\), but got \(2, 3\); compare 'cls'"):
        called([torch.zeros(2, 3)] * 2, [torch.zeros(2, 3)] * 2)
    for name in ('pixel_weight', 'category_weight', 'tau'):
        with pytest.raises(ValueError, match=f'`{name}`'):
            DSDLoss(**{name: -1})


def test_half_precision():
    student, teacher = maps(), maps(seed=1)
    expected = called(student, teacher)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = called(*([one.half() for one in side] for side in (student, teacher)))
    for part, value in found.items():
        assert value.dtype == torch.float32
        assert math.isclose(value.item(), expected[part].item(), rel_tol=5e-2)
