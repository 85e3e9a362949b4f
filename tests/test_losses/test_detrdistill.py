"""DETRDistill compared with loops and the authors' numbers, and in special cases."""
import itertools
import math
from functools import partial

import pytest
import torch
from support.authors import cases

from mmkd import DETRDistillFeatureLoss, DETRDistillGroupLoss, DETRDistillLoss
from mmkd.losses.boxes import generalized_iou
from mmkd.losses.sets import TINY, assigned, centred, corners

LAYERS, FEATURES = cases('detrdistill')[:2], cases('detrdistill')[2:]


def random_set(seed, queries=4, classes=3, images=2, dtype=torch.float64):
    """Random logits (N, C, Q), and boxes (N, 4, Q) inside the image."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, classes, queries, generator=generator, dtype=dtype)
    boxes = torch.rand(images, 4, queries, generator=generator, dtype=dtype)
    return logits, torch.cat([0.3 + 0.4 * boxes[:, :2], 0.1 + 0.3 * boxes[:, 2:]], 1)


def compared(loss, one, other, **named):
    return loss(one[0], other[0], student_also=[one[1]], teacher_also=[other[1]], **named)


def giou(a, b):
    """GIoU of two boxes (cx, cy, w, h), from areas of rectangles."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = a.tolist(), b.tolist()
    left, right = max(ax - aw / 2, bx - bw / 2), min(ax + aw / 2, bx + bw / 2)
    top, bottom = max(ay - ah / 2, by - bh / 2), min(ay + ah / 2, by + bh / 2)
    common = max(right - left, 0) * max(bottom - top, 0)
    union = aw * ah + bw * bh - common
    hull = ((max(ax + aw / 2, bx + bw / 2) - min(ax - aw / 2, bx - bw / 2)) *
            (max(ay + ah / 2, by + bh / 2) - min(ay - ah / 2, by - bh / 2)))
    return common / union - (hull - union) / hull


def entropy_of_pair(s, t, use_sigmoid):
    """Cross entropy between two lists of logits, summed over the classes."""
    if use_sigmoid:
        p, q = s.sigmoid().tolist(), t.sigmoid().tolist()
        return -sum(b * math.log(a) + (1 - b) * math.log(1 - a) for a, b in zip(p, q))
    return -sum(b * math.log(a) for a, b in zip(s.softmax(0).tolist(), t.softmax(0).tolist()))


@pytest.mark.parametrize('use_sigmoid', [True, False])
@pytest.mark.parametrize('counts', [(4, 4), (3, 5), (5, 3)])
def test_targets_are_the_cheapest_of_all_assignments(use_sigmoid, counts):
    mine, theirs = random_set(0, counts[0]), random_set(1, counts[1])
    got = compared(DETRDistillLoss(use_sigmoid=use_sigmoid), mine, theirs)
    parts, pairs = dict(cls=0., l1=0., giou=0.), 0
    for n in range(2):
        def parts_of(i, k, n=n):
            a, b = mine[1][n, :, i], theirs[1][n, :, k]
            return (entropy_of_pair(mine[0][n, :, i], theirs[0][n, :, k], use_sigmoid),
                    5 * (a - b).abs().sum().item(), 2 * giou(a, b))

        small, large = sorted(counts)
        orders = [list(zip(range(counts[0]), one)) if counts[0] == small else
                  list(zip(one, range(counts[1])))
                  for one in itertools.permutations(range(large), small)]
        best = min(orders, key=lambda order: sum(
            c + d - g for c, d, g in itertools.starmap(parts_of, order)))
        for c, d, g in itertools.starmap(parts_of, best):
            parts['cls'] += c
            parts['l1'] += d
            parts['giou'] += 2 - g
        pairs += len(best)
    for name, value in parts.items():
        assert got[name].item() == pytest.approx(value / pairs, rel=1e-9)


@pytest.mark.parametrize('number', range(len(LAYERS)))
def test_targets_are_those_of_the_authors(number):
    settings, inputs, outputs = LAYERS[number]
    leaves = [inputs['student'].requires_grad_(), inputs['student_boxes'].requires_grad_()]
    got = compared(DETRDistillLoss(use_sigmoid=True, **settings), leaves,
                   (inputs['teacher'], inputs['teacher_boxes']))
    for name in ('cls', 'l1', 'giou'):
        # The authors' GIoU adds 1e-6 to areas in pixels.
        torch.testing.assert_close(got[name], outputs[name], rtol=1e-7, atol=0)
    sum(got.values()).backward()
    for leaf, name in zip(leaves, ('logits', 'boxes')):
        torch.testing.assert_close(leaf.grad, outputs[name], rtol=1e-7, atol=1e-10)


def test_boxes_of_the_teacher_end_at_the_edges():
    logits = torch.zeros(1, 3, 1)
    own, other = torch.tensor([[[.1], [.5], [.2], [.4]]]), torch.tensor([[[.05], [.5], [.3], [.4]]])
    got = compared(DETRDistillLoss(use_sigmoid=True), (logits, own), (logits, other))
    assert [got[name].item() for name in ('l1', 'giou')] == pytest.approx([0, 0], abs=1e-6)


def test_order_of_the_queries_does_not_matter():
    mine, theirs = random_set(2, 6), random_set(3, 6)
    loss, order = DETRDistillLoss(use_sigmoid=True), torch.randperm(6)
    expected = compared(loss, mine, theirs)
    for sides in ((mine, [one[..., order] for one in theirs]),
                  ([one[..., order] for one in mine], theirs)):
        got = compared(loss, *sides)
        assert all(got[name].item() == pytest.approx(expected[name].item()) for name in expected)


def loops_of_group(mine, theirs, boxes, labels, size, use_sigmoid, assigned_by='teacher'):
    """The loss of a query group for one image, by trying all assignments of objects to queries."""
    z, b = (one[0] for one in (theirs if assigned_by == 'teacher' else mine))
    truth = [torch.tensor([(x + u) / 2 / size[1], (y + v) / 2 / size[0], (u - x) / size[1],
                           (v - y) / size[0]]).double() for x, y, u, v in boxes.tolist()]

    def cost(query, number):
        p = (z[:, query].sigmoid() if use_sigmoid else z[:, query].softmax(0))[labels[number]]
        p = p.item()
        of_class = 2 * (-0.25 * (1 - p)**2 * math.log(p) + 0.75 * p**2 * math.log(1 - p)) if (
            use_sigmoid) else -p
        return of_class + 5 * (b[:, query] - truth[number]).abs().sum().item() - 2 * giou(
            b[:, query], truth[number])

    queries = range(z.shape[1])
    best = min(itertools.permutations(queries, len(truth)), key=lambda order: sum(
        cost(query, number) for number, query in enumerate(order)))
    logits, where = mine[0][0], mine[1][0]
    cls = total = 0.
    for query in queries:
        label = labels[best.index(query)].item() if query in best else None
        p = logits[:, query].sigmoid() if use_sigmoid else logits[:, query].softmax(0)
        if use_sigmoid:
            cls += sum(-0.25 * (1 - q)**2 * math.log(q) if c == label else
                       -0.75 * q**2 * math.log(1 - q) for c, q in enumerate(p.tolist()))
            total = len(truth)
        else:
            share = 0.1 if label is None else 1.
            cls += -share * math.log(p[-1 if label is None else label].item())
            total += share
    l1 = sum((where[:, query] - truth[n]).abs().sum().item() for n, query in enumerate(best))
    iou = sum(1 - giou(where[:, query], truth[n]) for n, query in enumerate(best))
    return dict(cls=(2 if use_sigmoid else 1) * cls / total, l1=5 * l1 / len(truth),
                giou=2 * iou / len(truth))


@pytest.mark.parametrize('use_sigmoid', [True, False])
@pytest.mark.parametrize('assigned_by', ['teacher', 'student'])
def test_group_learns_the_objects_of_the_teachers_queries(use_sigmoid, assigned_by):
    mine, theirs = (random_set(seed, 5, 4, images=1) for seed in (4, 5))
    boxes, labels = torch.tensor([[3., 4., 20., 30.], [8., 2., 36., 25.]]), torch.tensor([2, 0])
    got = compared(DETRDistillGroupLoss(use_sigmoid=use_sigmoid, assigned_by=assigned_by), mine,
                   theirs, boxes=[boxes], box_labels=[labels],
                   image_sizes=torch.tensor([[32, 40]]))
    expected = loops_of_group(mine, theirs, boxes, labels, (32, 40), use_sigmoid, assigned_by)
    for name, value in expected.items():
        assert got[name].item() == pytest.approx(value, rel=1e-6)


def test_group_of_an_image_without_objects_is_background():
    mine, theirs = random_set(6), random_set(7)
    mine[0].requires_grad_()
    nothing = dict(boxes=[torch.zeros(0, 4)] * 2, box_labels=[torch.zeros(0).long()] * 2,
                   image_sizes=torch.tensor([[32, 40]] * 2))
    got = compared(DETRDistillGroupLoss(use_sigmoid=True), mine, theirs, **nothing)
    assert got['l1'].item() == got['giou'].item() == 0
    got['cls'].backward()
    assert (mine[0].grad > 0).all()  # all scores decrease


def values_of(inputs, level):
    return dict(teacher_also=[inputs['hidden'], inputs['logits'], inputs['places']],
                boxes=inputs['boxes'], image_sizes=torch.tensor(inputs['image_sizes']))


@pytest.mark.parametrize('number', range(len(FEATURES)))
def test_features_are_those_of_the_authors(number):
    settings, inputs, outputs = FEATURES[number]
    loss = DETRDistillFeatureLoss(**settings)
    students = [one.requires_grad_() for one in inputs['student']]
    got = [loss(s, t, **values_of(inputs, n))
           for n, (s, t) in enumerate(zip(students, inputs['teacher']))]
    torch.testing.assert_close(sum(got), outputs['total'], rtol=1e-8, atol=0)
    torch.testing.assert_close(sum(outputs['stages']), outputs['total'])
    sum(got).backward()
    for one, expected in zip(students, outputs['gradients']):
        torch.testing.assert_close(one.grad, expected, rtol=1e-7, atol=1e-12)


def test_features_by_loops():
    generator = torch.Generator().manual_seed(8)
    random = partial(torch.randn, generator=generator, dtype=torch.float64)
    student, teacher, hidden = random(1, 3, 2, 2), random(1, 3, 2, 2), random(1, 3, 4)
    logits, places = random_set(9, 4, 2, images=1)
    truth = torch.tensor([[2., 3., 20., 22.], [10., 10., 30., 31.]]).double()
    got = DETRDistillFeatureLoss(topk=3)(
        student, teacher, teacher_also=[[hidden], [logits], [places]], boxes=[truth],
        image_sizes=torch.tensor([[32, 40]]))
    scores = sorted(((logits[0, c, q].sigmoid().item(), q) for c in range(2) for q in range(4)),
                    reverse=True)[:3]

    def iou(box, other):
        x, y, u, v = corners(box).mul(torch.tensor([40, 32, 40, 32])).tolist()
        a, b, c, d = other.tolist()
        common = max(min(u, c) - max(x, a), 0) * max(min(v, d) - max(y, b), 0)
        return common / ((u - x) * (v - y) + (c - a) * (d - b) - common)

    mask = torch.zeros(2, 2).double()
    for score, query in scores:
        quality = score * max(iou(places[0, :, query], one) for one in truth)
        for y, x in itertools.product(range(2), repeat=2):
            mask[y, x] += quality * torch.nn.functional.cosine_similarity(
                hidden[0, :, query], teacher[0, :, y, x], dim=0)
    mask = mask.clamp(min=0.01)
    mask = mask / mask.max()
    expected = (mask * (teacher[0] - student[0])).square().mean()
    torch.testing.assert_close(got, expected)


def test_features_unlike_the_queries_have_little_weight():
    """A feature parallel to the query has the largest weight, an orthogonal one the smallest."""
    teacher = torch.eye(2).view(1, 2, 1, 2)
    layers = [[torch.tensor([[[1.], [0.]]])], [torch.full((1, 1, 1), 9.)],
              [torch.full((1, 4, 1), .5)]]
    student = torch.zeros_like(teacher).requires_grad_()
    DETRDistillFeatureLoss()(student, teacher, teacher_also=layers, boxes=[torch.zeros(0, 4)],
                             image_sizes=torch.tensor([[8, 8]])).backward()
    assert student.grad[0, 0, 0, 0].item() == pytest.approx(-0.5)
    assert student.grad[0, 1, 0, 1].item() == pytest.approx(-0.5 * 0.01**2, rel=1e-3)


def test_no_gradient_for_the_teacher_and_half_precision():
    mine, theirs = random_set(0, dtype=torch.float32), random_set(1, dtype=torch.float32)
    leaves = [one.requires_grad_() for one in (*mine, *theirs)]
    truth = dict(boxes=[torch.tensor([[2., 2., 9., 9.]])] * 2, box_labels=[torch.tensor([1])] * 2,
                 image_sizes=torch.tensor([[32, 40]] * 2))
    for loss, named in ((DETRDistillLoss(use_sigmoid=True), {}),
                        (DETRDistillGroupLoss(use_sigmoid=True), truth)):
        exact = compared(loss, leaves[:2], leaves[2:], **named)
        sum(exact.values()).backward()
        assert all(one.grad.abs().sum() > 0 for one in leaves[:2])
        assert all(one.grad is None for one in leaves[2:])
        with torch.autocast('cpu', dtype=torch.bfloat16):
            got = compared(loss, [one.half() for one in leaves[:2]],
                           [one.half() for one in leaves[2:]], **named)
        for name, value in got.items():
            assert value.dtype is torch.float32
            torch.testing.assert_close(value, exact[name], rtol=2e-2, atol=1e-3)


def test_no_images_and_no_queries_are_0():
    truth = dict(boxes=[], box_labels=[], image_sizes=torch.zeros(0, 2))
    for loss in (DETRDistillLoss(use_sigmoid=True), DETRDistillGroupLoss(use_sigmoid=True)):
        named = truth if isinstance(loss, DETRDistillGroupLoss) else {}
        empty = torch.zeros(0, 3, 4, requires_grad=True), torch.zeros(0, 4, 4)
        got = compared(loss, empty, empty, **named)
        assert {name: one.item() for name, one in got.items()} == dict(cls=0, l1=0, giou=0)
        sum(got.values()).backward()
    empty = torch.zeros(2, 3, 0, requires_grad=True), torch.zeros(2, 4, 0)
    got = compared(DETRDistillLoss(use_sigmoid=False), empty, empty)
    assert {name: one.item() for name, one in got.items()} == dict(cls=0, l1=0, giou=0)
    assert DETRDistillFeatureLoss()(
        torch.zeros(0, 3, 4, 4), torch.zeros(0, 3, 4, 4), teacher_also=[
            [torch.zeros(0, rows, 5)] for rows in (3, 2, 4)], boxes=[],
        image_sizes=torch.zeros(0, 2)).item() == 0


def test_nan_predictions_give_a_nan_loss():
    """The assignment must not raise an error, because NaN terms are excluded later."""
    mine, theirs = random_set(0), random_set(1)
    mine[0][0, 0, 0] = float('nan')
    assert compared(DETRDistillLoss(use_sigmoid=True), mine, theirs)['cls'].isnan()


def test_the_cpu_waits_once(monkeypatch):
    copies = []
    cpu = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, 'cpu', lambda self: copies.append(1) or cpu(self))
    assigned([torch.rand(4, 3), torch.rand(5, 6), torch.rand(2, 0)])
    assert len(copies) == 1


def test_boxes():
    boxes = random_set(3, 6, images=1)[1][0].T
    torch.testing.assert_close(centred(corners(boxes)), boxes)
    iou, general = generalized_iou(corners(boxes)[:, None], corners(boxes), TINY)
    assert iou.diagonal().allclose(torch.ones(6).double())
    for i, k in itertools.product(range(6), repeat=2):
        assert general[i, k].item() == pytest.approx(giou(boxes[i], boxes[k]))
    assert generalized_iou(torch.zeros(4), torch.zeros(4), TINY)[1].isfinite()


@pytest.mark.parametrize(('make', 'message'), [
    (lambda: DETRDistillLoss(cls_weight=-1), '`cls_weight` must be 0 or more'),
    (lambda: DETRDistillFeatureLoss(topk=0), '`topk` must be 1 or more'),
    (lambda: DETRDistillGroupLoss(assigned_by='both'), "`assigned_by` must be 'teacher' or")])
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_map_of_another_width_is_named():
    level, layers = torch.zeros(1, 8, 2, 2), [[torch.zeros(1, rows, 2)] for rows in (4, 3, 4)]
    with pytest.raises(ValueError, match='must have the 4 channels of its decoder, but has 8'):
        DETRDistillFeatureLoss()(level, level, teacher_also=layers, boxes=[torch.zeros(0, 4)],
                                 image_sizes=torch.tensor([[8, 8]]))


def test_the_gradient_of_boxes_does_not_wait_for_a_gpu():
    """The gradient of `prod` counts the factors that are 0, which needs a synchronisation."""
    boxes = torch.rand(3, 4, requires_grad=True)
    both = generalized_iou(corners(boxes), torch.rand(3, 4), TINY)
    waiting, found = [sum(both).sum().grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found.add(node)
            waiting += [one for one, _ in node.next_functions]
    assert not any('Prod' in type(node).__name__ for node in found)
