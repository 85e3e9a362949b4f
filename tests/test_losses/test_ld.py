"""LD compared with loops, the authors' numbers and mmdet's LDHead, and on empty input."""
import copy
import math
import statistics

import pytest
import torch
from mmdet.models.dense_heads import LDHead
from mmengine.registry import DefaultScope
from support.authors import cases

from mmkd import LDLoss
from mmkd.losses.ld import divergence_of_bins, valuable_region

SIZES, STRIDES, BINS, CLASSES = ((4, 5), (2, 3)), (8, 16), 5, 3
BOXES = [[[2., 3, 66, 52], [10, 6, 39, 31]], []]


def grid(height, width, stride, anchors=1):
    priors = []
    for y in range(height):
        for x in range(width):
            for a in range(anchors):
                half = (4 + 2 * a) * stride
                priors.append([x * stride - half, y * stride - half, x * stride + half,
                               y * stride + half])
    return torch.tensor(priors, dtype=torch.float64)


def batch(anchors=1, seed=0, dtype=torch.float64):
    """Two levels and two images, one with two objects and one without objects."""
    rng = torch.Generator().manual_seed(seed)

    def random(channels):
        return [2 * torch.randn(2 * anchors, channels, *size, dtype=dtype, generator=rng)
                for size in SIZES]

    student, scores = ([one.requires_grad_() for one in random(c)] for c in (4 * BINS, CLASSES))
    labels = [torch.randint(0, CLASSES + 2, (2 * anchors, *size), generator=rng).clamp(
        max=CLASSES) for size in SIZES]
    labels[0][0, 0, :2] = -1
    return student, random(4 * BINS), dict(
        labels=labels, label_weights=[(one >= 0).to(dtype) for one in labels],
        priors=[grid(*size, stride, anchors).to(dtype) for size, stride in zip(SIZES, STRIDES)],
        boxes=[torch.tensor(one, dtype=dtype).view(-1, 4) for one in BOXES],
        student_also=[[one] for one in scores], teacher_also=[[one] for one in random(CLASSES)])


def kl(t, s, tau):
    """τ² times the mean over the entries of the KL divergence of two lists of logits."""
    p, q = ([math.exp(x / tau) for x in side] for side in (s, t))
    p, q = ([x / sum(side) for x in side] for side in (p, q))
    return tau**2 * sum(b * math.log(b / a) for a, b in zip(p, q)) / len(p)


def overlaps(a, b):
    """Return the IoU and the DIoU of two boxes."""
    common = math.prod(max(0., min(a[k + 2], b[k + 2]) - max(a[k], b[k])) for k in (0, 1))
    union = sum(math.prod(one[k + 2] - one[k] for k in (0, 1)) for one in (a, b)) - common
    between = sum((a[k] + a[k + 2] - b[k] - b[k + 2])**2 / 4 for k in (0, 1))
    around = sum((max(a[k + 2], b[k + 2]) - min(a[k], b[k]))**2 for k in (0, 1))
    return common / union, common / union - between / around


def region_by_loops(priors, boxes, used, topk, gamma):
    """Return the region by level and index of the anchor."""
    found = {}
    for box in boxes.tolist():
        middle = [(box[k] + box[k + 2]) / 2 for k in (0, 1)]
        candidates = []
        for level, its in enumerate(priors):
            order = [n for n in range(len(its)) if used[level][n]]
            order.sort(key=lambda n, its=its: sum(
                (middle[k] - (its[n][k] + its[n][k + 2]).item() / 2)**2 for k in (0, 1)))
            candidates += [overlaps(its[n].tolist(), box)[0] for n in order[:topk]]
        threshold = statistics.mean(candidates) + statistics.stdev(candidates)
        for level, its in enumerate(priors):
            for n in range(len(its)):
                iou, diou = overlaps(its[n].tolist(), box)
                if used[level][n] and gamma * threshold <= diou < threshold:
                    found[level, n] = max(found.get((level, n), 0.), iou)
    return found


def by_loops(student, teacher, named, anchors, topk=9):
    parts = dict(main=0., valuable=0., kd=0.)
    for image in range(2):
        rows = range(image * anchors, (image + 1) * anchors)
        used = [(one[list(rows)] >= 0).permute(1, 2, 0).flatten() for one in named['labels']]
        region = region_by_loops(named['priors'], named['boxes'][image], used, topk, 0.25)
        for level, (height, width) in enumerate(SIZES):
            count = ((named['labels'][level] >= 0) & (named['labels'][level] < CLASSES)).sum()
            for y in range(height):
                for x in range(width):
                    for a, row in enumerate(rows):
                        at = level, (y * width + x) * anchors + a
                        s, t = (side[level][row, :, y, x].tolist() for side in (student, teacher))
                        ld = sum(kl(t[e * BINS:e * BINS + BINS], s[e * BINS:e * BINS + BINS], 10.)
                                 for e in range(4))
                        parts['valuable'] += 0.25 / 16 * region.get(at, 0.) * ld
                        label = named['labels'][level][row, y, x].item()
                        if not 0 <= label < CLASSES:
                            continue
                        s, t = (named[side][level][0][row, :, y, x].tolist()
                                for side in ('student_also', 'teacher_also'))
                        parts['main'] += 0.25 / 4 * max(1 / (1 + math.exp(-c)) for c in s) * ld
                        parts['kd'] += 10 * kl(t, s, 2.) / count.item()
    return parts


@pytest.mark.parametrize(('anchors', 'topk'), [(1, 9), (2, 3)])
def test_by_loops(anchors, topk):
    student, teacher, named = batch(anchors)
    found = LDLoss(topk=topk)(student, teacher, **named)
    expected = by_loops(student, teacher, named, anchors, topk)
    assert list(found) == list(expected)
    for part, value in found.items():
        assert expected[part] > 0
        assert abs(value.item() - expected[part]) < 1e-9 * expected[part]


def test_unused_levels_count_for_the_threshold():
    """The region of a level does not depend on which other levels are compared."""
    student, teacher, named = batch()
    whole = LDLoss(topk=3).regions(named['labels'], named['priors'], named['boxes'], torch.float64)
    for own, other in ((0, 1), (1, 0)):
        some = {key: value if key == 'boxes' else [value[own]] for key, value in named.items()}
        loss = LDLoss(main=0, kd=0, topk=3)
        found = loss([student[own]], [teacher[own]], **some,
                     left_out_labels=[named['labels'][other]],
                     left_out_priors=[named['priors'][other]])['valuable']
        expected = (whole[own] * divergence_of_bins(
            student[own], teacher[own], 10.) / BINS).sum() * 0.25 / 16
        torch.testing.assert_close(found, expected)
        alone = loss([student[own]], [teacher[own]], **some)['valuable']
        assert (alone - expected).abs() > 1e-6  # another threshold


@pytest.mark.parametrize(('settings', 'inputs', 'outputs'), cases('ld'))
def test_as_the_authors(settings, inputs, outputs):
    """Compared with the authors' LDHead.loss_single and ATSSAssigner.get_vlr_region, in float32."""
    student, scores = ([one.requires_grad_() for one in inputs[name]]
                       for name in ('student', 'student_cls'))
    loss, labels = LDLoss(**settings), inputs['labels']
    found = loss(
        student, inputs['teacher'], labels=labels, priors=inputs['priors'],
        label_weights=[torch.ones(one.shape) for one in labels], boxes=[inputs['boxes']],
        student_also=[[one] for one in scores],
        teacher_also=[[one] for one in inputs['teacher_cls']])
    for part, value in found.items():
        torch.testing.assert_close(value, sum(outputs[part]), rtol=1e-7, atol=0)
    gradients = torch.autograd.grad(sum(found.values()), student + scores)
    for mine, authors in zip(zip(gradients[:2], gradients[2:]), outputs['gradients']):
        for one, other in zip(mine, authors):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)
    region = loss.regions(labels, inputs['priors'], [inputs['boxes']], torch.float64)
    torch.testing.assert_close(torch.cat([one.flatten() for one in region]), outputs['region'],
                               rtol=0, atol=1e-6)


def test_main_region_as_in_mmdet():
    """mmdet's LDHead has only the main region."""
    torch.manual_seed(0)
    height, width = SIZES[0]
    with DefaultScope.overwrite_default_scope('mmdet'):
        head = LDHead(CLASSES, 4, feat_channels=4, stacked_convs=1, reg_max=BINS - 1,
                      norm_cfg=None, anchor_generator=dict(
                          type='AnchorGenerator', ratios=[1.], octave_base_scale=8,
                          scales_per_octave=1, strides=[8]),
                      bbox_coder=dict(type='DistancePointBBoxCoder'),
                      loss_bbox=dict(type='GIoULoss'),
                      loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True, beta=2.0),
                      loss_ld=dict(type='KnowledgeDistillationKLDivLoss', loss_weight=0.25, T=10))
    student, teacher, named = (one[:1] if isinstance(one, list) else {
        key: value[:1] if key != 'boxes' else value for key, value in one.items()}
        for one in batch())
    labels = named['labels'][0]
    # mmdet gives ignored positions the label of the background, with weight 0.
    expected = head.loss_by_feat_single(
        named['priors'][0].expand(2, -1, -1), named['student_also'][0][0], student[0],
        labels.flatten(1) % (CLASSES + 1), named['label_weights'][0].flatten(1),
        named['priors'][0].expand(2, -1, -1) + 1, (8, 8), teacher[0], torch.tensor(1.))[3]
    found = LDLoss(valuable=0, kd=0)(student, teacher, **named)
    torch.testing.assert_close(found['main'], expected)
    assert found['valuable'] == found['kd'] == 0
    gradients = [torch.autograd.grad(one, student[0])[0] for one in (found['main'], expected)]
    torch.testing.assert_close(*gradients)
    assert height * width * 2 == labels.numel()


def test_scores_of_the_main_part_are_only_weights():
    student, teacher, named = batch()
    scores = [one for one, in named['student_also']]
    parts = LDLoss()(student, teacher, **named)
    gradients = torch.autograd.grad(parts['main'] + parts['valuable'], scores, allow_unused=True,
                                    retain_graph=True)
    assert all(one is None or one.abs().sum() == 0 for one in gradients)
    assert all(one.abs().sum() > 0 for one in torch.autograd.grad(parts['kd'], scores))


def test_nothing_to_find():
    """No objects and no positives, weights of 0, and equal networks."""
    student, teacher, named = batch()
    none = dict(named, boxes=[torch.zeros(0, 4).double()] * 2,
                labels=[torch.full_like(one, CLASSES) for one in named['labels']])
    parts = LDLoss()(student, teacher, **none)
    sum(parts.values()).backward()
    assert all(value == 0 for value in parts.values())
    assert all(one.grad.abs().sum() == 0 for one in student)
    all_ignored = dict(named, labels=[torch.full_like(one, -1) for one in named['labels']],
                       label_weights=[torch.zeros_like(one) for one in named['label_weights']])
    assert all(value == 0 for value in LDLoss()(student, teacher, **all_ignored).values())
    same = LDLoss()(student, [one.detach() for one in student],
                    **dict(named, teacher_also=named['student_also']))
    assert all(abs(value) < 1e-12 for value in same.values())


def test_a_single_anchor_has_a_threshold():
    """The IoU of a single anchor has no standard deviation."""
    one = torch.tensor([[0., 0, 10, 10]])
    found = valuable_region(one, [1], torch.tensor([[0., 0, 10, 8]]), torch.ones(1).bool(), 9, 0.25)
    assert found.tolist() == [pytest.approx(0.8)]  # the DIoU is a little lower than the IoU


def test_a_constant_added_to_the_bins_of_a_side_changes_nothing():
    one, other = torch.randn(2, 1, 4 * BINS, 2, 2).double()
    shift = torch.randn(1, 4, 1, 2, 2).double().expand(-1, -1, BINS, -1, -1).flatten(1, 2)
    torch.testing.assert_close(divergence_of_bins(one + shift, other, 10.),
                               divergence_of_bins(one, other, 10.))


def test_half_precision_is_computed_in_float32():
    student, teacher, named = batch(dtype=torch.float32)
    expected = LDLoss()(student, teacher, **named)
    given = copy.copy(named)
    for name in ('student_also', 'teacher_also'):
        given[name] = [[one.detach().bfloat16()] for one, in named[name]]
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = LDLoss()([one.detach().bfloat16() for one in student],
                         [one.bfloat16() for one in teacher], **given)
    for part, value in found.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[part], rtol=0.05, atol=0)


def test_what_does_not_fit_is_refused():
    student, teacher, named = batch()
    boxes = [one[:, :4].detach() for one in student]
    with pytest.raises(ValueError, match='LDLoss compares distributions .* got 4 numbers per box; '
                                         'use .*BCKDBoxLoss'):
        LDLoss()(boxes, boxes, **named)
    named['priors'] = [one[:, :2] for one in named['priors']]
    with pytest.raises(ValueError, match='needs anchors, .* from points; write `valuable=0`'):
        LDLoss()(student, teacher, **named)
    assert LDLoss(valuable=0)(student, teacher, **named)['main'] > 0
    for settings, message in ((dict(main=-1), '`main` must be 0'), (dict(tau=0), '`tau` must'),
                              (dict(topk=0), '`topk` must be 1'), (dict(kd='a'), '`kd` must be')):
        with pytest.raises((TypeError, ValueError), match=message):
            LDLoss(**settings)
