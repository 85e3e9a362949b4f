"""DIST+ on features compared with loops; its invariances, constant input, and its method."""
import math

import pytest
import torch
from conftest import retinanet, segmentor
from mmengine.config import Config

from mmkd import DISTPlusLoss
from mmkd.inspection import entries_of, inspect_pair
from mmkd.losses.fast.pieces import PIECE


def rho(a, b, weight=None):
    """Pearson's correlation of two lists of numbers, with optional weights."""
    w = [1.] * len(a) if weight is None else weight
    mean_a, mean_b = (sum(k * one for k, one in zip(w, x)) / sum(w) for x in (a, b))
    a, b = [one - mean_a for one in a], [one - mean_b for one in b]
    norms = [math.sqrt(sum(k * one * one for k, one in zip(w, x))) for x in (a, b)]
    return sum(k * x * y for k, x, y in zip(w, a, b)) / (norms[0] * norms[1] + 1e-8)


def by_loops(student, teacher, weight=None):
    channel, spatial, total, images = 0., 0., 0., 0
    count, _, height, width = student.shape
    places = [(y, x) for y in range(height) for x in range(width)]
    for n in range(count):
        w = [1. if weight is None else weight[(n, *at)].item() for at in places]
        for k, (y, x) in zip(w, places):
            channel += k * rho(student[n, :, y, x].tolist(), teacher[n, :, y, x].tolist())
            total += k
        if any(w):
            sums = [[side[n, :, y, x].sum().item() for y, x in places]
                    for side in (student, teacher)]
            spatial += rho(*sums, w)
            images += 1
    return dict(channel=1 - channel / total, spatial=1 - spatial / images)


def maps(*shape, seed=0):
    return 3 + torch.randn(2, *shape, dtype=torch.float64,
                           generator=torch.Generator().manual_seed(seed))


def weights():
    weight = torch.rand(3, 2, 4, dtype=torch.float64,
                        generator=torch.Generator().manual_seed(1)).sub(0.3).clamp(min=0)
    weight[1] = 0
    return weight


@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('piece', [6, 1 << 18])
def test_by_loops(weighted, piece, monkeypatch):
    monkeypatch.setitem(PIECE, 'cpu', piece)
    student, teacher = maps(3, 5, 2, 4)
    weight = weights() if weighted else None
    found = DISTPlusLoss(0.7, 1.3, loss_weight=2)(student, teacher, weight)
    expected = by_loops(student, teacher, weight)
    assert list(found) == ['channel', 'spatial']
    assert found['channel'].item() == pytest.approx(1.4 * expected['channel'])
    assert found['spatial'].item() == pytest.approx(2.6 * expected['spatial'])


@pytest.mark.parametrize('weighted', [False, True])
def test_gradient(weighted):
    student, teacher = maps(3, 5, 2, 4)
    weight = weights() if weighted else None
    assert torch.autograd.gradcheck(
        lambda s: tuple(DISTPlusLoss()(s, teacher, weight).values()), student.requires_grad_())


def test_affine_maps_with_positive_scale_do_not_matter():
    student, teacher = maps(2, 6, 4, 4)
    expected = DISTPlusLoss()(student, teacher)
    scale, shift = torch.rand(2, 2, 1, 4, 4, dtype=torch.float64) + 0.5
    found = DISTPlusLoss()(student * scale + shift, teacher)
    torch.testing.assert_close(found['channel'], expected['channel'])  # per position
    scale, shift = torch.rand(2, 2, 1, 1, 1, dtype=torch.float64) + 0.5
    torch.testing.assert_close(DISTPlusLoss()(student * scale + shift, teacher), expected)
    assert all(value < 1e-7 for value in DISTPlusLoss()(teacher * scale + shift, teacher).values())
    # Negated features have the largest distance, 2, in both parts.
    assert all(value.item() == pytest.approx(2) for value in
               DISTPlusLoss()(-teacher, teacher).values())


def test_a_mask_leaves_positions_out():
    student, teacher = maps(2, 4, 1, 6)
    mask = torch.tensor([1., 0, 1, 1, 0, 1]).expand(2, 1, 6)
    kept = mask[0, 0] > 0
    expected = DISTPlusLoss()(student[..., kept], teacher[..., kept])
    student[..., 1], teacher[..., 4] = float('nan'), float('inf')
    found = DISTPlusLoss()(student.requires_grad_(), teacher, mask)
    torch.testing.assert_close(found, expected)
    sum(found.values()).backward()
    assert student.grad.isfinite().all()
    assert (student.grad[..., ~kept] == 0).all()


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('case', ['constant', 'two channels', 'two positions', 'vectors',
                                  'no image', 'no position', 'all masked'])
def test_finite_for(case, dtype):
    student, teacher = (side.float() for side in maps(2, 5, 3, 4))
    weight = torch.zeros(2, 3, 4) if case == 'all masked' else None
    if case == 'constant':
        student = torch.full_like(student, 0.1)
    elif case == 'two channels':
        student, teacher = student[:, :2], teacher[:, :2]
    elif case == 'two positions':
        student, teacher = student[:, :, :1, :2], teacher[:, :, :1, :2]
    elif case == 'vectors':
        student, teacher = student[..., 0, 0], teacher[..., 0, 0]
    elif case == 'no image':
        student, teacher = student[:0], teacher[:0]
    elif case == 'no position':
        student, teacher = student[..., :0], teacher[..., :0]
    student = student.to(dtype, copy=True).requires_grad_()
    teacher = teacher.to(dtype).requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        parts = DISTPlusLoss()(student, teacher, weight)
    sum(parts.values()).backward()
    assert all(value.dtype == torch.float32 and value.isfinite() for value in parts.values())
    assert student.grad.isfinite().all()
    assert teacher.grad is None
    zero = {'two channels': ['channel'], 'two positions': ['spatial'], 'vectors': ['spatial'],
            'no image': list(parts), 'no position': list(parts), 'all masked': list(parts)}
    assert [name for name, value in parts.items() if value == 0] == zero.get(case, [])
    if case == 'constant':
        assert list(parts.values()) == [1, 1]
        assert (student.grad == 0).all()


def test_notes_and_arguments():
    assert 'leaves out the correlation over 2 channels' in DISTPlusLoss().notes(2)[0]
    assert not DISTPlusLoss().notes(3)
    for name in ('channel_weight', 'spatial_weight'):
        with pytest.raises(ValueError, match=f'`{name}` must be 0 or more'):
            DISTPlusLoss(**{name: -1})


def test_by_its_method():
    """The method adds DIST on the logits. Unequal channels need a convolution."""
    pair = inspect_pair(*(Config(dict(default_scope='mmdet', model=one))
                          for one in (retinanet(), retinanet(channels=24))))
    assert entries_of('dist_plus', pair) == [
        dict(type='mmkd.DISTLoss', on='cls'), dict(type='mmkd.DISTPlusLoss', on='neck')]
    pair = inspect_pair(*(Config(dict(default_scope='mmseg', model=one))
                          for one in (segmentor(), segmentor(width=12))))
    assert [one['on'] for one in entries_of('dist_plus', pair)] == ['cls', 'aux', 'backbone']
