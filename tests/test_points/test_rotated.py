"""Heads whose boxes have an angle, as in mmrotate, which need not be installed."""
import pytest
import torch
from conftest import build, distiller, retinanet
from mmdet.models.task_modules import DeltaXYWHBBoxCoder
from mmdet.registry import TASK_UTILS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

import mmkd
from mmkd.losses.base import DistillLoss
from mmkd.points import points_of


@TASK_UTILS.register_module(force=True)
class FiveColumns(DeltaXYWHBBoxCoder):
    """A coder of boxes with an angle."""
    encode_size = 5


@mmkd.MODELS.register_module(force=True)
class NeedsBoxes(DistillLoss):
    """A loss that asks for the boxes of objects."""

    def compare(self, student, teacher, *, boxes):
        return (student - teacher).square().mean() * len(boxes)


def test_boxes_with_an_angle_are_no_boxes_in_pixels():
    model = build(retinanet(bbox_coder=dict(type='FiveColumns')))
    points = points_of(model)
    assert list(points) == ['cls', 'reg', 'neck', 'backbone']
    assert points['reg'].box_columns == 5


def test_the_angle_is_no_centerness():
    model = build(retinanet())
    model.bbox_head.__class__ = type('ATSSHead', (type(model.bbox_head), ), {})
    assert 'centerness' in points_of(model)
    model.bbox_head.angle_coder = None
    points = points_of(model)
    assert list(points) == ['cls', 'reg', 'neck', 'backbone']
    assert points['reg'].box_columns == 4


def test_losses_that_need_boxes_refuse_rotated_ones():
    teacher = dict(config=dict(default_scope='mmdet', model=retinanet(width=12)), checkpoint=None)
    model = build(dict(distiller(retinanet(), teacher, dict(type='NeedsBoxes', on='cls')),
                       classes=('a', 'b', 'c')))
    model.init_weights()
    sample = DetDataSample(metainfo=dict(img_shape=(64, 64), batch_input_shape=(64, 64)))
    sample.gt_instances = InstanceData(bboxes=torch.tensor([[20., 20., 9., 9., 0.3]]),
                                       labels=torch.tensor([0]))
    model.train().bbox_head.loss_by_feat = lambda *_, **__: {}
    with pytest.raises(ValueError, match='have 5 columns, as rotated ones; choose a loss'):
        model(torch.randn(1, 3, 64, 64), [sample], mode='loss')


def test_scores_of_centres_are_a_point_beside_boxes_with_an_angle():
    """As in a rotated ATSS, whose angle is a fifth column."""
    model = build(retinanet(bbox_coder=dict(type='FiveColumns')))
    model.bbox_head.__class__ = type('ATSSHead', (type(model.bbox_head), ), {})
    points = points_of(model)
    assert 'boxes' not in points
    assert 'centerness' in points


def test_box_imitation_takes_five_columns():
    student, teacher = torch.zeros(1, 10, 2, 2), torch.full((1, 10, 2, 2), 3.)
    assert mmkd.BoxImitationLoss()(student, teacher, priors=torch.zeros(8, 5)) == 2.5
