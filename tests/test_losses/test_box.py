"""Box imitation compared with loops and with mmdet's loss; the heads that support it."""
import pytest
import torch
from conftest import retinanet, two_stage
from mmengine.config import Config
from support.authors import cases

from mmkd import BoxImitationLoss
from mmkd.inspection import entries_of, inspect_pair


def by_loops(student, teacher, beta, weight=None):
    """The loss of rows (M, C)."""
    total = count = 0.
    for m, (s, t) in enumerate(zip(student.tolist(), teacher.tolist())):
        w = 1. if weight is None else weight[m].item()
        for a, b in zip(s, t):
            d = abs(a - b)
            total += w * (d * d / 2 / beta if d < beta else d - beta / 2)
            count += w
    return total / count


@pytest.mark.parametrize('beta', [1., 1 / 9, 3.])
@pytest.mark.parametrize('weighted', [False, True])
def test_by_loops(beta, weighted):
    torch.manual_seed(0)
    student, teacher = 2 * torch.randn(2, 30, 4, dtype=torch.float64)
    weight = torch.rand(30, dtype=torch.float64).sub(0.2).clamp(min=0) if weighted else None
    assert BoxImitationLoss(beta)(student, teacher, weight).item() == pytest.approx(
        by_loops(student, teacher, beta, weight))


def test_without_beta_it_is_the_mean_difference():
    student, teacher = torch.randn(2, 6, 4)
    torch.testing.assert_close(BoxImitationLoss(0.)(student, teacher),
                               (student - teacher).abs().mean())


def test_mmdets_numbers():
    for settings, inputs, outputs in cases('box'):
        assert settings == dict(loss_weight=1)
        student = inputs['student'].requires_grad_()
        value = BoxImitationLoss(**settings)(student, inputs['teacher'])
        value.backward()
        torch.testing.assert_close(value, outputs['value'], rtol=1e-10, atol=0)
        torch.testing.assert_close(student.grad, outputs['gradient'], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize('case', ['no RoI', 'no weight', 'masked', 'equal'])
def test_finite_for(case, dtype):
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 5, 4)
    weight = None
    if case == 'no RoI':
        student, teacher = student[:0], teacher[:0]
    elif case == 'no weight':
        weight = torch.zeros(5)
    elif case == 'masked':
        weight = torch.tensor([0., 1, 1, 0, 1])
        student[0], teacher[3] = float('nan'), float('nan')
    elif case == 'equal':
        teacher = student.clone()
    half = student.to(dtype, copy=True).requires_grad_()
    teacher = teacher.to(dtype).requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = BoxImitationLoss()(half, teacher, weight)
    value.backward()
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert half.grad.isfinite().all()
    assert teacher.grad is None
    assert (value == 0) == (case != 'masked')


def pair_of(student, teacher):
    return inspect_pair(*(Config(dict(default_scope='mmdet', model=one))
                          for one in (student, teacher)))


def agnostic(model):
    head = dict(model['roi_head']['bbox_head'], reg_class_agnostic=True)
    return dict(model, roi_head=dict(model['roi_head'], bbox_head=head))


def test_at_roi_and_dense_heads():
    wanted = [dict(type='mmkd.BoxImitationLoss', on='reg')]
    assert entries_of('box', pair_of(two_stage(), two_stage(width=12))) == wanted
    assert entries_of('box', pair_of(retinanet(), retinanet(channels=24))) == wanted


def test_a_cascade_teaches_a_student_of_one_box_for_all_classes():
    cascade = two_stage('cascade-rcnn', width=12)
    problem = pair_of(two_stage(), cascade).problem(dict(type='mmkd.BoxImitationLoss', on='reg'))
    assert 'one for each class' in problem
    assert '`reg_class_agnostic=True`' in problem
    assert entries_of('box', pair_of(agnostic(two_stage()), cascade))


def test_a_wrong_beta():
    with pytest.raises(ValueError, match='`beta` must be 0 or more, but got -1'):
        BoxImitationLoss(-1)


def test_bins_of_distances_are_refused():
    """68 values per position are 4 sides of 17 bins, not offsets; 8 values are two anchors."""
    points, anchors = torch.zeros(20, 2), torch.zeros(40, 4)
    with pytest.raises(ValueError, match='4 for each of 20 anchors or points, but got 1360 values.*'
                       'use mmkd.LDLoss'):
        BoxImitationLoss()(*torch.zeros(2, 1, 68, 4, 5), priors=points)
    assert BoxImitationLoss()(*torch.zeros(2, 1, 8, 4, 5), priors=anchors) == 0


def test_offsets_of_the_points_of_reppoints():
    """18 values of a position are x and y of 9 points."""
    student = torch.zeros(2, 18, 4, 5)
    loss = BoxImitationLoss(beta=0.11)(student, student + 2, priors=torch.zeros(20, 2))
    assert loss.item() == pytest.approx(2 - 0.11 / 2)
