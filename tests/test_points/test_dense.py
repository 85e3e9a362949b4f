"""Point 'cls' of every dense head of mmdet with the usual convention, without a module path."""
import copy
import importlib
from unittest.mock import patch

import pytest
import torch
from conftest import retinanet
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData

from mmkd.compare.spec import TermSpec
from mmkd.compare.term import Term
from mmkd.files.zoo import config_path
from mmkd.points import DenseHead, family_of, find_point
from mmkd.points.recorder import recording

SMALL_RESNET = dict(depth=18, base_channels=8, frozen_stages=-1, init_cfg=None)
SMALL_NECK = dict(in_channels=[8, 16, 32, 64], out_channels=16)
SMALL_HEAD = dict(num_classes=3, in_channels=16, feat_channels=16, stacked_convs=1)

# Config of the zoo: (changes for a small model, whether it uses sigmoid, anchors per position).
ZOO = {
    'retinanet/retinanet_r50_fpn_1x_coco.py': (
        dict(backbone=SMALL_RESNET, neck=SMALL_NECK, bbox_head=SMALL_HEAD), True, 9),
    'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py': (
        dict(backbone=SMALL_RESNET, neck=SMALL_NECK,
             bbox_head=dict(SMALL_HEAD, norm_cfg=None)), True, 1),
    'atss/atss_r50_fpn_1x_coco.py': (
        dict(backbone=SMALL_RESNET, neck=SMALL_NECK,
             bbox_head=dict(SMALL_HEAD, feat_channels=32)), True, 1),
    'gfl/gfl_r50_fpn_1x_coco.py': (
        dict(backbone=SMALL_RESNET, neck=SMALL_NECK,
             bbox_head=dict(SMALL_HEAD, feat_channels=32)), True, 1),
    'paa/paa_r50_fpn_1x_coco.py': (
        dict(backbone=SMALL_RESNET, neck=SMALL_NECK,
             bbox_head=dict(SMALL_HEAD, feat_channels=32)), True, 1),
    'vfnet/vfnet_r50_fpn_1x_coco.py': (
        dict(backbone=SMALL_RESNET, neck=SMALL_NECK,
             bbox_head=dict(SMALL_HEAD, feat_channels=32)), True, 1),
    'tood/tood_r50_fpn_1x_coco.py': (
        dict(backbone=SMALL_RESNET, neck=SMALL_NECK,
             bbox_head=dict(SMALL_HEAD, feat_channels=32, stacked_convs=2)), True, 1),
    'yolox/yolox_tiny_8xb8-300e_coco.py': (
        dict(backbone=dict(widen_factor=0.125), neck=dict(in_channels=[32, 64, 128],
                                                          out_channels=16),
             bbox_head=dict(num_classes=3, in_channels=16, feat_channels=16)), True, 1),
    'rtmdet/rtmdet_tiny_8xb32-300e_coco.py': (
        dict(backbone=dict(widen_factor=0.125, init_cfg=None),
             neck=dict(in_channels=[32, 64, 128], out_channels=16),
             bbox_head=dict(num_classes=3, in_channels=16, feat_channels=16)), True, 1),
    'ssd/ssd300_coco.py': (dict(bbox_head=dict(num_classes=3)), False, None),
    'yolo/yolov3_mobilenetv2_8xb24-320-300e_coco.py': (
        dict(backbone=dict(widen_factor=0.25, init_cfg=None),
             neck=dict(in_channels=[80, 24, 8], out_channels=[16, 16, 16]),
             bbox_head=dict(num_classes=3, in_channels=[16] * 3, out_channels=[16] * 3)), True, 3),
    'centernet/centernet_r18_8xb16-crop512-140e_coco.py': (
        dict(backbone=dict(base_channels=8, init_cfg=None),
             neck=dict(in_channels=64, num_deconv_filters=(32, 16, 16)),
             bbox_head=dict(num_classes=3, in_channels=16, feat_channels=16)), True, 1),
}


def build(path, changes):
    config = Config.fromfile(config_path(f'mmdet::{path}'))
    config.merge_from_dict(dict(model=copy.deepcopy(changes)))
    for imported in (config.get('custom_imports') or {}).get('imports', []):
        importlib.import_module(imported)
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(config.model)


def batch(size):
    from mmdet.structures import DetDataSample
    samples = []
    for _ in range(2):
        sample = DetDataSample(metainfo=dict(
            img_shape=(size, size), pad_shape=(size, size), batch_input_shape=(size, size),
            ori_shape=(size, size), scale_factor=(1., 1.)))
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor([[8., 8., 60., 56.], [30., 40., 90., 100.]]),
            labels=torch.tensor([0, 2]))
        sample.ignored_instances = InstanceData(
            bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
        samples.append(sample)
    return torch.randn(2, 3, size, size), samples


def look(model, inputs):
    """Run the model as a teacher runs."""
    DenseHead.predict(model, DenseHead.extract(model, inputs), ['bbox_head'])


@pytest.mark.parametrize('path', ZOO)
def test_cls_needs_no_module_path(path):
    changes, use_sigmoid, anchors = ZOO[path]
    model = build(path, changes)
    point = find_point(model, 'cls')
    assert isinstance(family_of(model), DenseHead)
    assert point.use_sigmoid is use_sigmoid
    assert point.num_classes == (3 if use_sigmoid else 4)

    MessageHub.get_instance('dense').update_info('epoch', 0)  # TOOD reads the epoch
    inputs, samples = batch(300 if path.startswith('ssd') else 128)
    model.train()
    with recording(model, point.paths) as seen:
        model(inputs, samples, mode='loss')
    levels = point.levels(seen)
    assert all(level.shape[0] == 2 and level.shape[1] % point.num_classes == 0 for level in levels)
    if anchors:
        assert {level.shape[1] for level in levels} == {anchors * point.num_classes}

    # The teacher's levels are the same, and the loss reaches the backbone.
    model.zero_grad()
    sum(level.sum() for level in levels).backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.backbone.parameters())
    model.eval()
    with torch.no_grad(), recording(model, point.paths) as told:
        look(model, inputs)
    assert [v.shape for v in point.levels(told)] == [v.shape for v in levels]


def test_head_that_activates_its_scores_provides_logits():
    path = 'tood/tood_r50_fpn_1x_coco.py'
    model = build(path, ZOO[path][0]).eval()
    point = find_point(model, 'cls')
    with torch.no_grad(), recording(model, point.paths) as seen:
        look(model, torch.randn(1, 3, 256, 256))
    probabilities = seen['bbox_head'][0].output[0]
    for logits, level in zip(point.levels(seen), probabilities):
        torch.testing.assert_close(logits.sigmoid(), level)


def test_yolo_reads_the_classes_of_every_anchor():
    path = 'yolo/yolov3_mobilenetv2_8xb24-320-300e_coco.py'
    model = build(path, ZOO[path][0]).eval()
    point = find_point(model, 'cls')
    with torch.no_grad(), recording(model, point.paths) as seen:
        look(model, torch.randn(2, 3, 64, 64))
    for level, raw in zip(point.levels(seen), seen['bbox_head'][0].output[0]):
        for anchor in range(3):
            start = anchor * 8 + 5
            assert torch.equal(level[:, anchor * 3:anchor * 3 + 3], raw[:, start:start + 3])


def test_corner_heatmaps_are_logits():
    import mmdet.models.dense_heads as heads
    with DefaultScope.overwrite_default_scope('mmdet'):
        head = heads.CornerHead(num_classes=3, in_channels=8, num_feat_levels=2,
                                corner_emb_channels=1)
    model = torch.nn.Module()
    model.bbox_head = head
    point = DenseHead.points(model)['cls']
    with torch.no_grad(), recording(model, point.paths) as seen:
        outputs = head.forward([torch.randn(1, 8, 16, 16)] * 2)
    levels = point.levels(seen)
    assert [tuple(level.shape) for level in levels] == [(1, 3, 16, 16)] * 4
    assert all(torch.equal(a, b) for a, b in zip(levels, [*outputs[0], *outputs[1]]))
    assert min(level.min() for level in levels) < 0  # before the activation


@pytest.mark.parametrize('path', ['solo/solo_r50_fpn_1x_coco.py',
                                  'solo/decoupled-solo_r50_fpn_1x_coco.py',
                                  'solov2/solov2_r50_fpn_1x_coco.py'])
def test_solo_gives_logits_in_training_and_test(path):
    head = dict(num_classes=3, in_channels=16, feat_channels=32, stacked_convs=1)
    if path.startswith('solov2'):
        head['mask_feature_head'] = dict(feat_channels=32)
    model = build(path, dict(backbone=SMALL_RESNET, neck=SMALL_NECK, mask_head=head))
    point = find_point(model, 'cls')
    assert (point.num_classes, point.use_sigmoid) == (3, True)
    adapter, inputs = family_of(model), torch.randn(1, 3, 128, 128)
    both = []
    for mode in (True, False):
        model.train(mode)
        for module in model.modules():  # so that both modes use the same statistics
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()
        with torch.no_grad(), recording(model, point.paths) as seen:
            adapter.predict(model, adapter.extract(model, inputs), point.paths)
        both.append(point.levels(seen))
    assert len(both[0]) == 5
    assert all(torch.equal(a, b) for a, b in zip(*both))


def test_named_point_and_module_path_are_the_same_tensors():
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(Config(dict(model=retinanet())).model)
    named, dotted = find_point(model, 'cls'), find_point(model, 'bbox_head.retina_cls')
    assert (dotted.use_sigmoid, dotted.num_classes) == (named.use_sigmoid, named.num_classes)
    with recording(model, named.paths + dotted.paths) as seen:
        look(model, torch.randn(1, 3, 64, 64))
    ours, theirs = named.levels(seen), dotted.levels(seen)
    assert len(ours) == 5
    assert all(a is b for a, b in zip(ours, theirs))


@pytest.mark.parametrize('path', ['backbone.layer1', 'bbox_head.cls_convs.0.conv',
                                  'bbox_head.retina_reg'])
def test_only_class_logits_have_an_activation(path):
    # 12 classes and 9 anchors: the scores and the tower have 108 channels, the boxes 36.
    model = retinanet(classes=12, channels=108)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(Config(dict(model=model)).model)
    assert find_point(model, path).use_sigmoid is None
    assert find_point(model, path).num_classes is None
    assert find_point(model, 'bbox_head.retina_cls').num_classes == 12


def test_unknown_family_is_named():
    with pytest.raises(ValueError, match='points of the model, a Linear; it supports '
                                         '.*single-stage '
                                         'detectors of mmdet'):
        find_point(torch.nn.Linear(2, 2), 'cls')


def test_misspelt_path_names_the_nearest():
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(Config(dict(model=retinanet())).model)
    with pytest.raises(ValueError, match=r'no point `neck.fpn_convs.7` in the model '
                       r'\(RetinaNet\); closest: `neck\.fpn_convs\.\d'):
        find_point(model, 'neck.fpn_convs.7')


def test_objectness_is_not_a_class():
    """A region proposal network has one column, whatever the class names of the data."""
    model = build('rpn/rpn_r50_fpn_1x_coco.py', dict(
        backbone=SMALL_RESNET, neck=SMALL_NECK,
        rpn_head=dict(in_channels=16, feat_channels=16)))
    point = find_point(model, 'cls')
    assert (point.num_classes, point.num_named, point.use_sigmoid) == (1, 0, True)


REG = {'retinanet': True, 'atss': True, 'gfl': True, 'paa': True, 'rtmdet': True, 'ssd': True,
       'fcos': False, 'vfnet': False, 'tood': False, 'yolox': False, 'centernet': False}


@pytest.mark.parametrize('path', [path for path in ZOO if path.split('/')[0] in REG])
def test_boxes_are_a_point_if_training_and_test_code_them_alike(path):
    changes, *_ = ZOO[path]
    torch.manual_seed(0)
    model = build(path, changes)
    points = DenseHead.points(model)
    assert ('reg' in points) == REG[path.split('/')[0]]
    if 'reg' not in points:
        return
    for parameter in model.parameters():  # the parameter of SSD's norm is not initialised
        torch.nn.init.normal_(parameter, std=0.02)
    # Norms and dropout behave differently in training. This test is about the output of the head.
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    found = []
    size = 300 if 'ssd' in path else 256
    images = torch.randn(1, 3, size, size)
    for is_training in (True, False):
        model.bbox_head.training = is_training
        with torch.no_grad(), recording(model, points['reg'].paths) as records:
            features = model.extract_feat(images)
            model.bbox_head.forward(features)
        found.append(points['reg'].levels(records))
    torch.testing.assert_close(*found)
    assert all(torch.equal(a, b) for a, b in zip(found[0], records['bbox_head'][0].output[1]))


DECODED = dict(REG, fcos=True)


@pytest.mark.parametrize('path', [path for path in ZOO if path.split('/')[0] in DECODED])
def test_decoded_boxes_are_those_that_a_test_finds(path):
    """Compared with mmdet's predictions without threshold and NMS, clipped to the image."""
    torch.manual_seed(0)
    model = build(path, ZOO[path][0]).eval()
    points, head = DenseHead.points(model), model.bbox_head
    assert ('boxes' in points) == DECODED[path.split('/')[0]]
    if 'boxes' not in points:
        return
    for parameter in model.parameters():  # the parameter of SSD's norm is not initialised
        torch.nn.init.normal_(parameter, std=0.02)
    size = 300 if 'ssd' in path else 256
    with torch.no_grad(), recording(model, points['boxes'].paths) as records:
        outputs = head.forward(model.extract_feat(torch.randn(2, 3, size, size)))
    levels = points['boxes'].levels(records)
    assert [one.shape[2:] for one in levels] == [one.shape[2:] for one in outputs[0]]
    config = Config(dict(nms_pre=10**6, score_thr=-1., min_bbox_size=-1))
    priors = head.prior_generator.grid_priors([one.shape[2:] for one in levels], device='cpu')
    for image in range(2):
        for number, level in enumerate(levels):
            one = [[side[number][image]] for side in outputs]
            one += [[None]] * (len(outputs) == 2)
            expected = boxes_of_a_test(head, one, priors[number], number, config)
            found = level[image].permute(1, 2, 0).reshape(-1, 4).clamp(min=0, max=10**6)
            assert found.abs().sum() > 0
            torch.testing.assert_close(found.unique(dim=0), expected.unique(dim=0))


def boxes_of_a_test(head, outputs, priors, number, config):
    head.loss_cls = getattr(head, 'loss_cls', None)  # mmdet 3.3 reads it, but SSD has none
    strides = head.prior_generator.strides[number:number + 1]
    with patch.object(head.prior_generator, 'strides', strides), patch.object(
            type(head), '_bbox_post_process', lambda self, results, *_, **__: results):
        return head._predict_by_feat_single(
            *outputs, [priors], dict(img_shape=(10**6, 10**6)), config, rescale=False,
            with_nms=False).bboxes


@pytest.mark.parametrize('path', ['fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
                                  'autoassign/autoassign_r50-caffe_fpn_1x_coco.py'])
@pytest.mark.parametrize('norm_on_bbox', [True, False])
def test_boxes_of_fcos_are_in_pixels_in_training_and_in_a_test(path, norm_on_bbox):
    """With ``norm_on_bbox`` the head returns distances in units of the stride in training."""
    torch.manual_seed(0)
    is_fcos = path.startswith('fcos')
    model = build(path, dict(backbone=SMALL_RESNET, neck=SMALL_NECK, bbox_head=dict(
        SMALL_HEAD, norm_cfg=None, norm_on_bbox=norm_on_bbox))).eval()
    point = DenseHead.points(model)['boxes']
    images, found, outputs = torch.randn(1, 3, 128, 128), [], []
    for is_training in (False, True):
        model.bbox_head.training = is_training
        with torch.no_grad(), recording(model, point.paths) as records:
            outputs.append(model.bbox_head.forward(model.extract_feat(images))[1])
        found.append(point.levels(records))
    torch.testing.assert_close(*found)
    assert all(torch.equal(a, b) != (norm_on_bbox and is_fcos) for a, b in zip(*outputs))


def test_boxes_of_another_coding_are_refused():
    one = DenseHead.points(build('retinanet/retinanet_r50_fpn_1x_coco.py',
                                 ZOO['retinanet/retinanet_r50_fpn_1x_coco.py'][0]))['reg']
    same = DenseHead.points(build('retinanet/retinanet_r50_fpn_1x_coco.py',
                                  ZOO['retinanet/retinanet_r50_fpn_1x_coco.py'][0]))['reg']
    changes = copy.deepcopy(ZOO['retinanet/retinanet_r50_fpn_1x_coco.py'][0])
    changes['bbox_head'] = dict(changes['bbox_head'],
                                bbox_coder=dict(target_stds=[0.1, 0.1, 0.2, 0.2]))
    stds = DenseHead.points(build('retinanet/retinanet_r50_fpn_1x_coco.py', changes))['reg']
    changes['bbox_head'] = dict(ZOO['retinanet/retinanet_r50_fpn_1x_coco.py'][0]['bbox_head'],
                                anchor_generator=dict(octave_base_scale=8))
    anchors = DenseHead.points(build('retinanet/retinanet_r50_fpn_1x_coco.py', changes))['reg']
    assert one.coding == same.coding
    assert len({one.coding, stds.coding, anchors.coding}) == 3


def test_guided_anchors_predict_classes_everywhere():
    """In tests the head skips positions without expected objects, but not in training."""
    config = Config.fromfile(config_path(
        'mmdet::guided_anchoring/ga-retinanet_r50-caffe_fpn_1x_coco.py'))
    config.merge_from_dict(dict(model=dict(
        backbone=SMALL_RESNET, neck=SMALL_NECK, bbox_head=SMALL_HEAD)))
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(config.model).eval()
    point = find_point(model, 'cls')
    with torch.no_grad(), recording(model, point.paths) as records:
        DenseHead.predict(model, model.extract_feat(torch.randn(2, 3, 128, 128)), point.paths)
    assert not model.bbox_head.training
    assert all((level != 0).all() for level in point.levels(records))


@pytest.mark.parametrize(('path', 'says'), [
    ('autoassign/autoassign_r50-caffe_fpn_1x_coco.py', 'no loss module of the student has'),
    ('free_anchor/freeanchor_r50_fpn_1x_coco.py', 'no loss module of the student has'),
    ('vfnet/vfnet_r50_fpn_1x_coco.py', 'loss are scores')])
def test_heads_without_labels_per_position_are_refused(path, says):
    """AutoAssign and FreeAnchor inherit a `loss_cls` that they do not call."""
    head = dict(SMALL_HEAD, **dict(norm_cfg=None) if 'autoassign' in path else {},
                **dict(feat_channels=32) if 'vfnet' in path else {})
    model = build(path, dict(backbone=SMALL_RESNET, neck=SMALL_NECK, bbox_head=head))
    with pytest.raises(ValueError, match=says):
        Term(TermSpec.of(dict(type='mmkd.BCKDLoss', on='cls'))).find(model)
    Term(TermSpec.of(dict(type='mmkd.DISTLoss', on='cls'))).find(model)
