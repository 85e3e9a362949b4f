"""PGD compared with loops, on empty input, and in a run."""
import math

import numpy as np
import pytest
import torch
from conftest import detector_config, distiller, retinanet, save_teacher
from mmengine.config import Config
from support.extensions import train_kill_resume
from support.tools import run_tool

from mmkd import PGDClsLoss, PGDRegLoss
from mmkd.losses.pgd import SPREAD, importance

SIZES, STRIDES, CLASSES = ((4, 5), (2, 3)), (8, 16), 3


def batch(anchors=2, are_points=False, seed=0):
    """Two levels and three images, with two overlapping boxes, no box, and one box."""
    rng = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=rng)

    boxes = [[[2., 3, 26, 22], [10, 6, 39, 31]], [], [[1., 1, 33, 15]]]
    boxes = [torch.tensor(one, dtype=torch.float64).reshape(-1, 4) for one in boxes]
    priors, also = [], []
    for (height, width), stride in zip(SIZES, STRIDES):
        at = torch.tensor([[x * stride, y * stride] for y in range(height) for x in range(width)],
                          dtype=torch.float64)
        centres = at[:, None].expand(-1, anchors, -1)
        priors.append(at if are_points else torch.cat(
            [centres - stride, centres + stride], 2).flatten(0, 1))
        # The decoded boxes are some tens of pixels wide and differ clearly in quality.
        middle = at.T.reshape(2, height, width).repeat(2 * anchors, 1, 1)
        sides = torch.tensor([-1., -1, 1, 1]).repeat(anchors).view(-1, 1, 1)
        decoded = middle + sides * 12 + 6 * random(3, 4 * anchors, height, width)
        also.append([random(3, anchors * CLASSES, height, width), decoded])
    student, teacher = ([random(3, 6, *size) for size in SIZES] for _ in range(2))
    return [one.requires_grad_() for one in student], teacher, dict(
        boxes=boxes, box_labels=[torch.tensor(one).long() for one in ([0, 2], [], [1])],
        priors=priors, teacher_also=also)


def overlap(one, other):
    sides = [max(0., min(one[k + 2], other[k + 2]) - max(one[k], other[k])) for k in (0, 1)]
    areas = [max(0., b[2] - b[0]) * max(0., b[3] - b[1]) for b in (one, other)]
    common = sides[0] * sides[1]
    return common / (areas[0] + areas[1] - common)


def importances_by_loops(named, xi, topk, act='sigmoid'):
    """Return, by (image, level, y, x), the importance and whether the position is in no box."""
    weights, outside = {}, {}
    for n, boxes in enumerate(named['boxes']):
        for level, (height, width) in enumerate(SIZES):
            for y in range(height):
                for x in range(width):
                    weights[n, level, y, x], outside[n, level, y, x] = 0., 1.
        for box, label in zip(boxes.tolist(), named['box_labels'][n].tolist()):
            found = []
            for level, (height, width) in enumerate(SIZES):
                cls, decoded = (one[n] for one in named['teacher_also'][level])
                anchors = len(decoded) // 4
                columns = len(cls) // anchors
                for y in range(height):
                    for x in range(width):
                        at = [x * STRIDES[level], y * STRIDES[level]]
                        if not (box[0] < at[0] < box[2] and box[1] < at[1] < box[3]):
                            continue
                        outside[n, level, y, x] = 0.
                        best = 0.
                        for a in range(anchors):
                            logits = cls[a * columns:(a + 1) * columns, y, x].tolist()
                            p = (1 / (1 + math.exp(-logits[label])) if act == 'sigmoid' else
                                 math.exp(logits[label]) / sum(map(math.exp, logits)))
                            where = decoded[4 * a:4 * a + 4, y, x].tolist()
                            best = max(best, p**(1 - xi) * overlap(where, box)**xi)
                        if best > 0:
                            found.append((best, at, (n, level, y, x)))
            found = sorted(found, key=lambda one: -one[0])[:topk]
            points = np.array([at for _, at, _ in found])
            mean = points.mean(0)
            spread = sum(np.outer(p - mean, p - mean) for p in points) / len(points)
            inverse = np.linalg.inv(spread + SPREAD * np.eye(2))
            for p, (_, _, key) in zip(points, found):
                weights[key] = max(weights[key], math.exp(-(p - mean) @ inverse @ (p - mean) / 2))
    return weights, outside


def attentions_by_loops(features, tau):
    """Return the attention of features (C, H, W) by position, and by channel and position."""
    count, height, width = features.shape
    places = [(y, x) for y in range(height) for x in range(width)]
    means = {at: (sum(features[(c, *at)].abs() for c in range(count)) / count / tau).exp()
             for at in places}
    spatial = {at: len(places) * means[at] / sum(means.values()) for at in places}
    channel = {}
    for at in places:
        each = [(features[(c, *at)].abs() / tau).exp() for c in range(count)]
        channel.update({(c, *at): count * each[c] / sum(each) for c in range(count)})
    return spatial, channel


def cls_by_loops(student, teacher, named, xi, topk, tau, act='sigmoid'):
    weights, outside = importances_by_loops(named, xi, topk, act)
    parts = dict(foreground=0., background=0., attention=0.)
    for level, (height, width) in enumerate(SIZES):
        for n in range(3):
            places = [(y, x) for y in range(height) for x in range(width)]
            (p, a), (q, b) = (attentions_by_loops(side[level][n], tau)
                              for side in (student, teacher))
            for part, factor, map_ in (('foreground', 0.04, weights),
                                       ('background', 0.02, outside)):
                count = sum(map_[(n, level, *at)] > 0 for at in places)
                for at in places:
                    for c in range(6):
                        error = (student[level][(n, c, *at)] - teacher[level][(n, c, *at)])**2
                        parts[part] += (factor * (1., 1.25)[level] / 3 * q[at] * b[(c, *at)] *
                                        error * map_[(n, level, *at)] / max(count, 1))
            channels = sum((a[key] - b[key]).abs() for key in a) / len(places)
            parts['attention'] += 0.0008 / 3 * (
                sum((p[at] - q[at]).abs() for at in places) + channels)
    return parts


def reg_by_loops(student, teacher, named, xi, topk, tau):
    weights, _ = importances_by_loops(named, xi, topk)
    parts = dict(foreground=0., attention=0.)
    for level in range(2):
        keys = [key for key, weight in weights.items() if key[1] == level and weight > 0]
        for key in keys:
            n, _, y, x = key
            (_, a), (_, b) = (attentions_by_loops(side[level][n], tau)
                              for side in (student, teacher))
            for c in range(6):
                error = (student[level][n, c, y, x] - teacher[level][n, c, y, x])**2
                parts['foreground'] += 0.064 * weights[key] * b[c, y, x] * error / 6 / len(keys)
                parts['attention'] += 0.0008 * (a[c, y, x] - b[c, y, x]).abs() / len(keys)
    return parts


def agrees(found, expected, student):
    assert list(found) == list(expected)
    for part, value in found.items():
        torch.testing.assert_close(value, expected[part])
        gradients = [torch.autograd.grad(one, student, retain_graph=True)
                     for one in (value, expected[part])]
        for mine, wanted in zip(*gradients):
            assert wanted.abs().sum() > 0
            torch.testing.assert_close(mine, wanted)


@pytest.mark.parametrize('setting', [(0.8, 30, 0.8), (0.6, 3, 0.5), (1., 1, 2.), (0., 5, 0.8)])
@pytest.mark.parametrize('anchors', [1, 2])
def test_cls_by_loops(setting, anchors):
    student, teacher, named = batch(anchors, are_points=anchors == 1)
    xi, topk, tau = setting
    found = PGDClsLoss(xi, topk, tau)(student, teacher, level=[0, 1], **named)
    agrees(found, cls_by_loops(student, teacher, named, *setting), student)


@pytest.mark.parametrize('setting', [(0.8, 30, 0.8), (0.6, 6, 0.5), (0.3, 8, 2.)])
def test_reg_by_loops(setting):
    student, teacher, named = batch(seed=1)
    xi, topk, tau = setting
    found = PGDRegLoss(xi, topk, tau)(student, teacher, **named)
    agrees(found, reg_by_loops(student, teacher, named, *setting), student)


def test_probabilities_of_a_softmax_head():
    student, teacher, named = batch()
    found = PGDClsLoss()(student, teacher, level=[0, 1], also_sigmoid=[False, None], **named)
    agrees(found, cls_by_loops(student, teacher, named, 0.8, 30, 0.8, 'softmax'), student)


def test_level_weights_are_those_of_the_levels_numbers():
    student, teacher, named = batch()
    parts = [PGDClsLoss(level_weights=[5., 4., 3., 2.])(
        student[:1], teacher[:1], level=[number], **{
            name: value[:1] if name in ('priors', 'teacher_also') else value
            for name, value in named.items()}) for number in (1, 3)]
    for part, factor in (('foreground', 2), ('background', 2), ('attention', 1)):
        torch.testing.assert_close(parts[0][part], factor * parts[1][part])
    with pytest.raises(ValueError, match='1 `level_weights`, .* level 1; write one for each'):
        PGDClsLoss(level_weights=[1.])(student, teacher, level=[0, 1], **named)


def test_importance_of_positions_by_hand():
    """Four corners of a square around (5, 5), each at a distance of √2 standard deviations."""
    centres = torch.tensor([[0., 0], [10, 0], [0, 10], [10, 10], [5, 5]], dtype=torch.float64)
    quality = torch.tensor([[.9], [.8], [.7], [.6], [.1]], dtype=torch.float64)
    found = importance(quality, centres, 4)
    torch.testing.assert_close(found, torch.tensor([math.exp(-1)] * 4 + [0.]).double(),
                               rtol=1e-4, atol=0)
    # One point, or points on one line, have no area; nothing is divided by 0.
    assert importance(quality, centres, 1).tolist() == [1, 0, 0, 0, 0]
    assert importance(quality, centres, 2).isfinite().all()
    assert importance(quality * 0, centres, 4).tolist() == [0] * 5


@pytest.mark.parametrize('kind', [PGDClsLoss, PGDRegLoss])
def test_nothing_to_find(kind):
    """No objects, boxes without size, and one channel: values and gradients are finite."""
    student, teacher, named = batch()
    more = dict(level=[0, 1]) if kind is PGDClsLoss else {}
    for boxes in ([torch.zeros(0, 4)] * 3, [torch.zeros(1, 4)] * 3):
        labels = [torch.zeros(len(one)).long() for one in boxes]
        given = dict(named, boxes=boxes, box_labels=labels, **more)
        parts = kind()(student, teacher, **given)
        assert parts['foreground'] == 0
        sum(parts.values()).backward()
        assert all(one.grad.isfinite().all() for one in student)
    for decoded in (0., float('inf')):
        for level in named['teacher_also']:
            level[1].fill_(decoded)
        parts = kind()([one[:, :1] for one in student], [one[:, :1] for one in teacher],
                       **named, **more)
        assert all(one.isfinite() for one in parts.values())


def test_what_does_not_fit_is_refused():
    student, teacher, named = batch()
    named['teacher_also'] = named['teacher_also'][::-1]
    with pytest.raises(ValueError, match='PGDRegLoss needs maps of the size of .* predictions, '
                                         "2x3, but got 4x5; compare .* levels .* such as 'neck'"):
        PGDRegLoss()(student, teacher, **named)
    for settings, message in ((dict(xi=1.5), '`xi` must be between 0 and 1'),
                              (dict(topk=0), '`topk` must be an integer'),
                              (dict(tau=0), '`tau` must be greater than 0'),
                              (dict(delta=-1), '`delta` must be 0')):
        for kind in (PGDClsLoss, PGDRegLoss):
            with pytest.raises(ValueError, match=message):
                kind(**settings)


@pytest.mark.slow
@pytest.mark.parametrize('on', [('neck', 'neck'),
                                ('bbox_head.cls_convs.0', 'bbox_head.reg_convs.0')])
def test_it_is_trained_killed_and_resumed(shapes, tmp_path, on):
    student = retinanet()
    teacher = save_teacher(tmp_path / 't.pth', retinanet(channels=24))
    entries = [dict(type=f'mmkd.PGD{kind}Loss', on=point, name=f'loss_pgd_{kind.lower()}')
               for kind, point in zip(('Cls', 'Reg'), on)]

    def make(folder, **more):
        model = dict(distiller(student, teacher, *entries), hooks=[dict(type='mmkd.ReseedHook')])
        return detector_config(shapes, model, str(folder), **{
            'train_cfg.max_epochs': 3, 'train_cfg.val_interval': 9,
            'optim_wrapper.optimizer.momentum': 0.9, **more})

    losses, _ = train_kill_resume(make, student, tmp_path)
    for part in ('cls_foreground', 'cls_background', 'cls_attention', 'reg_foreground',
                 'reg_attention'):
        values = [one[f'loss_pgd_{part}'] for one in losses]
        assert all(value > 0 for value in values)
        assert len(set(values)) == len(values)


@pytest.mark.slow
def test_by_its_method(shapes, tmp_path):
    save_teacher(tmp_path / 't.pth', retinanet(channels=24))
    for name, channels in (('small', 16), ('big', 24)):
        config = detector_config(shapes, retinanet(channels=channels), 'unused')
        config.pop('work_dir')
        config.dump(str(tmp_path / f'{name}.py'))
    out = run_tool('train.py', 'small.py', '--teacher', 'big.py', '--teacher-checkpoint', 't.pth',
              '--method', 'pgd', '--work-dir', 'w', cwd=tmp_path)
    assert 'loss_pgd_cls_foreground' in out.stdout + out.stderr
    assert (tmp_path / 'w' / 'epoch_1.pth').is_file()
    written = Config.fromfile(str(tmp_path / 'w' / 'distill.py')).model.distill
    assert written == [
        dict(type='mmkd.PGDClsLoss', on='bbox_head.cls_convs.0', name='loss_pgd_cls'),
        dict(type='mmkd.PGDRegLoss', on='bbox_head.reg_convs.0', name='loss_pgd_reg')]
