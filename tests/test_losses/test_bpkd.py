"""BPKD compared with loops. The authors have not published the code of the losses."""
import math

import pytest
import torch

from mmkd.losses import BPKDLoss
from mmkd.losses.bpkd import edges


def batch(classes=3, seed=0):
    """Logits of half the size of the labels, some of which are ignored."""
    rng = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(2, classes, 4, 6, dtype=torch.float64, generator=rng)
                        for _ in range(2))
    label_map = torch.zeros(2, 8, 12).long()
    label_map[0, :, 5:] = 1
    label_map[0, 6:, 9:] = 2
    label_map[0, 3, 1] = -1
    label_map[1, 2:4] = -1
    label_map[1, 5:] = 2
    return student.requires_grad_(), teacher, label_map


def mask_by_loops(label_map, classes, width, scale=2):
    images, height, length = label_map.shape
    found = torch.zeros(images, classes, height // scale, length // scale, dtype=torch.float64)
    around = range(-(width // 2), width // 2 + 1)
    for n in range(images):
        for y in range(height):
            for x in range(length):
                if label_map[n, y, x] < 0:
                    continue
                window = [label_map[n, y + dy, x + dx].item() for dy in around for dx in around
                          if 0 <= y + dy < height and 0 <= x + dx < length]
                window = {one for one in window if one >= 0}
                for c in range(classes):
                    dilated, eroded = c in window, window == {c}
                    found[n, c, y // scale, x // scale] += (dilated - eroded) / scale**2
    return found


def soft(values):
    total = sum(value.exp() for value in values)
    return [value.exp() / total for value in values]


def by_loops(student, teacher, mask, tau, alpha):
    images, classes, height, length = student.shape
    places = [(y, x) for y in range(height) for x in range(length)]
    edge = body = 0.
    for n in range(images):
        pixel = {}
        for y, x in places:
            p, q = (soft([side[n, c, y, x] * mask[n, c, y, x] / tau for c in range(classes)])
                    for side in (teacher, student))
            pixel[y, x] = sum(a * (a / b).log() for a, b in zip(p, q))
        for c in range(classes):
            size = sum(mask[(n, c, *at)] for at in places)
            if size > 0:
                edge += alpha * sum(pixel[at] * mask[(n, c, *at)] for at in places) / size
            p, q = (soft([side[(n, c, *at)] * (1 - mask[(n, c, *at)]) / tau for at in places])
                    for side in (teacher, student))
            body += sum(a * (a / b).log() for a, b in zip(p, q)) / classes
    return tau**2 * edge / images, tau**2 * body / images


@pytest.mark.parametrize('width', [3, 5, 7])
def test_edges_agree_with_loops(width):
    label_map = batch()[2]
    found = edges(label_map, 3, width, (4, 6))
    torch.testing.assert_close(found.double(), mask_by_loops(label_map, 3, width))


def test_many_classes_agree_with_loops():
    """An integer holds 31 classes as bits, so classes 30 and 31 are in different integers."""
    rng = torch.Generator().manual_seed(0)
    label_map = torch.randint(28, 65, (2, 3, 4), generator=rng).repeat_interleave(4, 1)
    label_map = label_map.repeat_interleave(4, 2)
    found = edges(label_map, 65, 5, (6, 8))
    torch.testing.assert_close(found.double(), mask_by_loops(label_map, 65, 5))


def test_edges_by_hand():
    """Two halves: a window of 3 contains both classes in the two columns at the boundary."""
    label_map = torch.tensor([[0, 0, 0, 1, 1, 1]] * 3)[None]
    expected = torch.tensor([[0., 0, 1, 1, 0, 0]] * 3)
    found = edges(label_map, 3, 3, (3, 6))
    torch.testing.assert_close(found[0], torch.stack([expected, expected, 0 * expected]))
    # Ignored labels are not a class: with a gap of two columns, no window of 3 contains both
    # classes.
    label_map[..., 2:4] = -1
    assert edges(label_map, 3, 3, (3, 6)).sum() == 0


@pytest.mark.parametrize(('width', 'tau'), [(3, 1.), (5, 2.)])
def test_it_agrees_with_loops(width, tau):
    student, teacher, label_map = batch()
    found = BPKDLoss(width, tau=tau, alpha=1.5)(student, teacher, label_map=label_map)
    mask = mask_by_loops(label_map, 3, width)
    edge, body = by_loops(student, teacher, mask, tau, 1.5)
    for part, expected in (('edge', 50 * edge), ('body', 20 * body)):
        torch.testing.assert_close(found[part], expected, rtol=1e-6, atol=1e-9)
        gradients = [torch.autograd.grad(one, student, retain_graph=True)[0]
                     for one in (found[part], expected)]
        torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-8)


def test_each_part_has_its_region():
    """The edge part has no gradient where the mask is 0, the body part none where it is 1."""
    student, teacher, label_map = batch()
    mask = mask_by_loops(label_map, 3, 3)
    parts = BPKDLoss(3)(student, teacher, label_map=label_map)
    edge, body = (torch.autograd.grad(parts[name], student, retain_graph=True)[0]
                  for name in ('edge', 'body'))
    assert (edge[mask == 0] == 0).all()
    assert (mask == 0).any()
    assert (body[mask == 1] == 0).all()
    assert (mask == 1).any()
    assert edge[mask == 1].abs().sum() > 0
    assert body[mask == 0].abs().sum() > 0
    assert teacher.grad is None


def test_nothing_to_find_and_what_is_refused():
    student, teacher, label_map = batch()
    for filled in (1, -1):
        parts = BPKDLoss()(student, teacher, label_map=torch.full_like(label_map, filled))
        assert parts['edge'] == 0
        assert parts['body'] > 0
        sum(parts.values()).backward()
        assert student.grad.isfinite().all()
    none = torch.zeros(0, 3, 4, 6, requires_grad=True)
    parts = BPKDLoss()(none, none.detach(), label_map=label_map[:0])
    sum(parts.values()).backward()
    assert list(parts.values()) == [0, 0]
    with pytest.raises(ValueError, match='by labels .*; compare .cls. of a segmentor'):
        BPKDLoss()(student, teacher, label_map=label_map[:1])
    for settings in (dict(width=4), dict(width=1), dict(tau=0), dict(alpha=-1),
                     dict(edge_weight=-1), dict(body_weight=-1)):
        with pytest.raises(ValueError, match=f'`{next(iter(settings))}`'):
            BPKDLoss(**settings)


def test_half_precision():
    student, teacher, label_map = batch()
    expected = BPKDLoss()(student, teacher, label_map=label_map)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = BPKDLoss()(student.half(), teacher.half(), label_map=label_map)
    for part, value in found.items():
        assert value.dtype == torch.float32
        assert math.isclose(value.item(), expected[part].item(), rel_tol=2e-2)
