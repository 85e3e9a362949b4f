"""Points of mmyolo's detectors, and the labels of its batches."""
import copy
import sys
import types

import pytest
import torch
from conftest import build, distiller, retinanet
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import MODELS, TASK_UTILS
from support.mmyolo import batch_of_rows, needs_mmyolo, of_mmyolo, rows
from torch import nn

import mmkd
from mmkd.inspection import inspect_pair
from mmkd.losses.base import DistillLoss
from mmkd.points import family_of, find_point, points_of
from mmkd.points.families.yolo import HeadOfModule
from mmkd.points.recorder import recording

POINTS = ['cls', 'reg', 'boxes', 'neck', 'backbone']
ZOO = {
    'yolov5/yolov5_n-v61_syncbn_fast_8xb16-300e_coco.py': 3,
    'yolov6/yolov6_n_syncbn_fast_8xb32-300e_coco.py': 1,
    'yolov7/yolov7_w-p6_syncbn_fast_8x16b-300e_coco.py': 3,
    'yolov8/yolov8_n_syncbn_fast_8xb16-500e_coco.py': 1,
    'yolox/yolox_tiny_fast_8xb8-300e_coco.py': 1,
    'ppyoloe/ppyoloe_s_fast_8xb32-300e_coco.py': 1,
    'rtmdet/rtmdet_tiny_syncbn_fast_8xb32-300e_coco.py': 1,
}
"""Configs of mmyolo, and the number of anchors at a position."""

SEEN = {}


@mmkd.MODELS.register_module(force=True)
class KeepsTruth(DistillLoss):
    """Keeps the ground truth that it is given."""

    def compare(self, student, teacher, *, boxes, box_labels):
        SEEN.update(boxes=boxes, labels=box_labels)
        return (student - teacher).square().mean()


def pair(student, teacher, *distill, scope='mmdet'):
    teacher = dict(config=dict(default_scope=scope, model=teacher), checkpoint=None)
    model = build(dict(distiller(student, teacher, *distill), classes=('a', 'b', 'c')), scope)
    model.init_weights()
    return model.train()


@pytest.fixture
def stand_in(monkeypatch):
    """A module with a class `YOLOv5Head` in place of mmyolo's; returns the config of a student."""
    from mmdet.models.dense_heads.base_dense_head import BaseDenseHead

    class YOLOv5Head(BaseDenseHead):
        """Returns (scores, distances) of `head_module`, in training with auxiliary ones."""

        def __init__(self, num_classes, in_channels, **_):
            super().__init__()
            self.num_classes, self.featmap_strides = num_classes, [8, 16, 32]
            self.head_module = nn.Conv2d(in_channels, num_classes + 4, 1)
            self.loss_cls = nn.BCEWithLogitsLoss()
            self.prior_generator = TASK_UTILS.build(dict(
                type='mmdet.MlvlPointGenerator', offset=0.5, strides=[8, 16, 32]))
            self.bbox_coder = DistanceCoder()

        def forward(self, features):
            found = [self.head_module(one) for one in features[:3]]
            scores, boxes = ([one[:, :self.num_classes] for one in found],
                             [one[:, self.num_classes:] for one in found])
            if not self.training:
                return scores, boxes
            return [[one, one * 0] for one in scores], [[one, one * 0] for one in boxes]

        def loss(self, features, labels):
            scores, _ = self(features)
            labels = labels['bboxes_labels'] if isinstance(labels, dict) else labels
            if isinstance(labels, torch.Tensor):
                labels[:, 2:] /= 64  # mmyolo writes normalised boxes into the batch
            return dict(loss_cls=sum(self.loss_cls(one, one * 0) for one, _ in scores))

        def loss_by_feat(self, *_):
            raise AssertionError('not called')

        def predict_by_feat(self, *_):
            raise AssertionError('not called')

    class DistanceCoder:
        def decode(self, points, distances, strides):
            reach = distances * strides[None, :, None]
            return torch.cat([points - reach[..., :2], points + reach[..., 2:]], -1)

    monkeypatch.setitem(sys.modules, 'mmyolo.models.dense_heads.yolov5_head',
                        types.SimpleNamespace(YOLOv5Head=YOLOv5Head))
    registry = MODELS.children['mmdet']
    registry.register_module(module=YOLOv5Head, name='StandInYOLOv5Head', force=True)
    yield _student
    registry.module_dict.pop('StandInYOLOv5Head')


def _student(width=8):
    model = copy.deepcopy(retinanet(width=width))
    model['neck'].update(start_level=1, num_outs=3)
    model['bbox_head'] = dict(type='StandInYOLOv5Head', num_classes=3, in_channels=16)
    return model


# --- on every stack -----------------------------------------------------------------------------


def test_points_of_a_head_with_a_module(stand_in):
    model = build(stand_in())
    assert isinstance(family_of(model), HeadOfModule)
    assert list(points_of(model)) == POINTS
    cls = find_point(model, 'cls')
    assert (cls.use_sigmoid, cls.num_classes, cls.num_named) == (True, 3, 3)


@pytest.mark.parametrize(('name', 'columns'), [('cls', 3), ('reg', 4), ('boxes', 4)])
def test_auxiliary_outputs_are_left_out(stand_in, name, columns):
    model = build(stand_in()).train()
    point = find_point(model, name)
    with recording(model, point.paths) as records:
        model.bbox_head(model.extract_feat(torch.randn(2, 3, 64, 64)))
    levels = point.answer(records).levels
    assert [tuple(one.shape) for one in levels] == [
        (2, columns, side, side) for side in (8, 4, 2)]
    assert any(one.any() for one in levels)


def test_truth_is_read_before_the_student_changes_it(stand_in):
    model = pair(stand_in(), stand_in(12), dict(type='KeepsTruth', on='cls'))
    batch = dict(bboxes_labels=rows())
    model(torch.randn(2, 3, 64, 64), batch, mode='loss')
    assert batch['bboxes_labels'][:, 2:].max() <= 1, 'the stand-in has not changed its labels'
    for image in (0, 1):
        own = rows()[rows()[:, 0] == image]
        assert torch.equal(SEEN['boxes'][image], own[:, 2:])
        assert torch.equal(SEEN['labels'][image], own[:, 1].long())


def test_images_without_objects(stand_in):
    model = pair(stand_in(), stand_in(12), dict(type='KeepsTruth', on='cls'))
    model(torch.randn(2, 3, 64, 64), dict(bboxes_labels=rows(1)), mode='loss')
    assert [len(one) for one in SEEN['boxes']] == [2, 0]


def test_a_teacher_with_another_normalization(stand_in):
    teacher = stand_in(12)
    teacher['data_preprocessor']['std'] = [255.] * 3
    model = pair(stand_in(), teacher, dict(type='mmkd.KDLoss', on='cls'))
    losses = model(torch.randn(2, 3, 64, 64), dict(bboxes_labels=rows()), mode='loss')
    assert all(torch.isfinite(one) for one in losses['loss_cls_kd'])


# --- with mmyolo --------------------------------------------------------------------------------


@pytest.mark.parametrize('path', ZOO)
def test_trains_and_returns_an_ordinary_student(path):
    needs_mmyolo()
    student, teacher = of_mmyolo(path, 0.125), of_mmyolo(path, 0.25)
    model = pair(student, teacher, dict(type='mmkd.DISTLoss', on='cls'),
                 dict(type='mmkd.KDLoss', on='cls'), dict(type='mmkd.MSELoss', on='boxes'),
                 dict(type='mmkd.MSELoss', on='neck', connector='conv'), scope='mmyolo')
    for network in (model, model.teacher.model):  # the last layers of some begin with zeros
        for parameter in network.bbox_head.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
    for name in ('epoch', 'iter'):
        MessageHub.get_current_instance().update_info(name, 0)
    losses = model(**batch_of_rows(size=128), mode='loss')
    parameters = [p for p in model.bbox_head.parameters() if p.requires_grad]
    for name in ('loss_cls_dist', 'loss_cls_kd', 'loss_boxes_mse', 'loss_neck_mse'):
        assert all(torch.isfinite(one) for one in losses[name]), name
        assert sum(losses[name]) > 0, name
        learned = parameters if 'neck' not in name else list(model.neck.parameters())
        gradients = torch.autograd.grad(sum(losses[name]), learned, retain_graph=True,
                                        allow_unused=True)
        assert any(one is not None and one.any() for one in gradients), name
    plain = build(student, 'mmyolo')
    plain.load_state_dict(model.state_dict(), strict=True)


@pytest.mark.parametrize(('path', 'anchors'), ZOO.items())
def test_boxes_are_those_that_it_predicts(path, anchors):
    needs_mmyolo()
    model = build(of_mmyolo(path, 0.125), 'mmyolo').eval()
    point = find_point(model, 'boxes')
    inputs = torch.rand(1, 3, 128, 128)
    meta = dict(ori_shape=(128, 128), img_shape=(128, 128), scale_factor=(1., 1.))
    config = Config(dict(multi_label=False, nms_pre=100, score_thr=-1., max_per_img=100,
                         nms=dict(type='nms', iou_threshold=1.)))
    with torch.no_grad(), recording(model, point.paths) as records:
        outputs = model.bbox_head(model.extract_feat(inputs))
        found = model.bbox_head.predict_by_feat(
            *outputs, batch_img_metas=[meta], cfg=config, rescale=False, with_nms=False)
    levels = point.answer(records).levels
    assert levels[0].shape[1] == 4 * anchors
    known = torch.cat([one.permute(0, 2, 3, 1).reshape(-1, 4) for one in levels])
    predicted = found[0].bboxes
    assert len(predicted)
    apart = torch.cdist(predicted.clamp(0, 128), known.clamp(0, 128),
                        compute_mode='donot_use_mm_for_euclid_dist')
    assert apart.min(1).values.max() < 1e-3


@mmkd.MODELS.register_module(force=True)
class KeepsLabels(DistillLoss):
    """Keeps the labels of positions that it is given."""

    def compare(self, student, teacher, *, labels):
        SEEN.setdefault('positions', []).append((student.shape, labels))
        return (student - teacher).square().mean()


def test_rtmdet_has_labels_of_positions():
    needs_mmyolo()
    path = 'rtmdet/rtmdet_tiny_syncbn_fast_8xb32-300e_coco.py'
    model = pair(of_mmyolo(path, 0.125), of_mmyolo(path, 0.25),
                 dict(type='KeepsLabels', on='cls'), scope='mmyolo')
    SEEN.clear()
    with recording(model, ['bbox_head.loss_cls']) as records:
        model(**batch_of_rows(size=128), mode='loss')
    assert [tuple(labels.shape) for _, labels in SEEN['positions']] == [
        (2, side, side) for side in (16, 8, 4)]
    (call, ) = records['bbox_head.loss_cls']
    given = call.args[1][0].view(2, -1)  # image by image, all levels
    found = torch.cat([labels.flatten(1) for _, labels in SEEN['positions']], 1)
    assert torch.equal(found, given)
    assert (found < 3).any()


def test_inspects_a_pair_of_mmyolo():
    needs_mmyolo()
    path = 'yolov8/yolov8_n_syncbn_fast_8xb16-500e_coco.py'
    student, teacher = (Config(dict(default_scope='mmyolo', model=of_mmyolo(path, width)))
                        for width in (0.125, 0.25))
    found = inspect_pair(student, teacher)
    assert [one.point for one in found if not one.problem] == POINTS


def test_a_batch_without_rows_is_named():
    with pytest.raises(ValueError, match=r"with `bboxes_labels`, but got a dict with \['masks'\]"):
        HeadOfModule.batches.samples(torch.zeros(1, 3, 8, 8), dict(masks=[]))
