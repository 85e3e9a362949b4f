"""Overlaps of boxes compared with mmdet's, and boxes without an area."""
import pytest
import torch
from mmdet.structures.bbox import bbox_overlaps

from mmkd.losses.boxes import aligned_giou, aligned_iou, as_rows, diou, iou


def boxes(count, seed):
    rng = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, dtype=torch.float64, generator=rng) * 40
    return torch.cat([corners, corners + torch.rand(count, 2, dtype=torch.float64,
                                                    generator=rng) * 30], 1)


def test_as_mmdet():
    one, other = boxes(60, 0).requires_grad_(), boxes(60, 1)
    torch.testing.assert_close(iou(one, other[:7]), bbox_overlaps(one, other[:7]))
    for mine, mode in ((aligned_iou, 'iou'), (aligned_giou, 'giou')):
        found = mine(one, other)
        expected = bbox_overlaps(one, other, mode, is_aligned=True)
        torch.testing.assert_close(found, expected)
        factor = torch.linspace(-1, 1, 60)
        for a, b in zip(*(torch.autograd.grad((side * factor).sum(), one)
                          for side in (found, expected))):
            torch.testing.assert_close(a, b)


def test_diou_by_hand():
    one, other = torch.tensor([[0., 0, 2, 2]]), torch.tensor([[1., 1, 5, 3], [0., 0, 2, 2]])
    # intersection 1, union 4 + 8 - 1; centres differ by (2, 1); the enclosing box is 5x3
    torch.testing.assert_close(diou(one, other), torch.tensor([[1 / 11 - 5 / 34, 1.]]))


def test_boxes_without_an_area():
    nothing = torch.zeros(1, 4, requires_grad=True)
    turned = torch.tensor([[4., 4, 1, 1]])
    for found in (iou(nothing, turned), diou(nothing, turned), aligned_iou(nothing, nothing),
                  aligned_giou(nothing, turned), aligned_giou(nothing, nothing)):
        gradient, = torch.autograd.grad(found.sum(), nothing)
        assert found.isfinite().all()
        assert gradient.isfinite().all()
    assert iou(torch.zeros(3, 4), torch.zeros(0, 4)).shape == (3, 0)


def test_rows_are_views():
    level = torch.arange(24.).view(1, 4, 2, 3)
    assert as_rows(level).data_ptr() == level.data_ptr()
    assert as_rows(level)[0, 1, 2].tolist() == [5., 11., 17., 23.]


@pytest.mark.parametrize('mode', [aligned_iou, aligned_giou])
def test_same_and_apart(mode):
    one = boxes(9, 2)
    torch.testing.assert_close(mode(one, one), torch.ones(9).double())
    assert (mode(one, one + 500) <= 0).all()
    # Shifting and scaling both boxes changes nothing.
    torch.testing.assert_close(mode(8 * one + 3, 8 * boxes(9, 3) + 3), mode(one, boxes(9, 3)))
