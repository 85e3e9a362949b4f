"""Mask transformers: the queries of both models are paired by class and mask, then compared."""
import numpy as np
import pytest
import torch
from conftest import build, distiller, save_teacher, segmentor, step
from mmengine.config import Config
from mmengine.structures import InstanceData, PixelData

from mmkd import KDLoss
from mmkd.files.zoo import config_path
from mmkd.inspection import inspect_pair, table_of
from mmkd.points import find_point
from mmkd.points.recorder import recording

ZOO = {
    'mmdet-maskformer': ('mmdet', 'maskformer/maskformer_r50_ms-16xb1-75e_coco.py'),
    'mmdet-mask2former': ('mmdet', 'mask2former/mask2former_r50_8xb2-lsj-50e_coco.py'),
    'mmseg-maskformer': ('mmseg', 'maskformer/maskformer_r50-d32_8xb2-160k_ade20k-512x512.py'),
    'mmseg-mask2former': ('mmseg', 'mask2former/mask2former_r50_8xb2-90k_cityscapes-512x1024.py'),
}


def model_of(kind, queries=6):
    package, path = ZOO[kind]
    config = Config.fromfile(config_path(f'{package}::{path}'))
    model = config.model
    model.data_preprocessor.pop('batch_augments', None)
    model.backbone.update(depth=18, base_channels=8, stem_channels=8, init_cfg=None,
                          frozen_stages=-1, norm_cfg=dict(type='BN'))
    if model.backbone.type == 'ResNet' and package == 'mmdet':
        model.backbone.pop('stem_channels')
    head = model.panoptic_head if package == 'mmdet' else model.decode_head
    head.in_channels = [8 * 2**i for i in range(4)]
    head.num_queries = queries
    head.transformer_decoder.num_layers = 2
    if 'encoder' in head.pixel_decoder:
        head.pixel_decoder.encoder.num_layers = 1
    if package == 'mmdet':
        head.num_things_classes, head.num_stuff_classes = 3, 0
        fusion = model.panoptic_fusion_head
        fusion.num_things_classes, fusion.num_stuff_classes = 3, 0
    else:
        head.num_classes = 3
    head.loss_cls.class_weight = [1.0] * 3 + [0.1]
    return package, model.to_dict()


def batch(package, size=64):
    torch.manual_seed(0)
    samples = []
    for _ in range(2):
        meta = dict(img_shape=(size, size), batch_input_shape=(size, size), pad_shape=(size, size),
                    ori_shape=(size, size), scale_factor=(1., 1.))
        labels = torch.zeros(1, size, size, dtype=torch.long)
        labels[:, :size // 2] = 2
        if package == 'mmdet':
            from mmdet.structures import DetDataSample
            from mmdet.structures.mask import BitmapMasks
            sample = DetDataSample(metainfo=meta)
            masks = np.stack([(labels[0] == label).numpy() for label in (0, 2)]).astype(np.uint8)
            sample.gt_instances = InstanceData(
                labels=torch.tensor([0, 2]), masks=BitmapMasks(masks, size, size))
            sample.gt_sem_seg = PixelData(sem_seg=labels)
        else:
            from mmseg.structures import SegDataSample
            sample = SegDataSample(metainfo=meta)
            sample.gt_sem_seg = PixelData(data=labels)
        samples.append(sample)
    return torch.randn(2, 3, size, size), samples


@pytest.mark.parametrize('kind', ZOO)
def test_queries_are_paired_by_class_and_mask(tmp_path, kind):
    package, config = model_of(kind)
    teacher = save_teacher(tmp_path / 't.pth', model_of(kind, queries=9)[1], scope=package)
    torch.manual_seed(3)
    model = build(distiller(config, teacher, dict(type='mmkd.KDLoss', on='cls'),
                            dict(type='mmkd.KDLoss', on='mask'),
                            dict(type='mmkd.DISTLoss', on='cls.0')), scope=package)
    model.init_weights()
    inputs, samples = batch(package)
    losses, seen, told_of = step(model, inputs, samples)
    sides = [match.levels(seen, told_of) for match in model.terms]
    (own, ), (told, ) = sides[0]
    (own_masks, ), (told_masks, ) = sides[1]
    assert own.shape == told.shape == (2, 4, 6)
    assert own_masks.shape == told_masks.shape == (2, 6, 16, 16)
    torch.testing.assert_close(losses['loss_cls_kd'][0], KDLoss()(own, told))
    torch.testing.assert_close(losses['loss_mask_kd'][0],
                               KDLoss(use_sigmoid=True)(own_masks, told_masks))

    # Class logits and masks of a pair belong to the same query.
    network, path = model.teacher.model, 'panoptic_head' if package == 'mmdet' else 'decode_head'
    with torch.no_grad():
        classes, masks = (output[-1] for output in network.get_submodule(path).forward(
            network.extract_feat(inputs), samples))
    for image in range(2):
        numbers = []
        for row in told[image].T:
            distances = (classes[image] - row).abs().sum(1)
            assert distances.min() < 1e-4
            numbers.append(int(distances.argmin()))
        assert len(set(numbers)) == 6
        torch.testing.assert_close(told_masks[image], masks[image, numbers], atol=1e-4, rtol=1e-4)
    # Each layer has its own predictions.
    _, (first, ) = sides[2]
    assert not torch.allclose(first, told)
    sum(loss for name, value in losses.items() if name.endswith(('kd', 'dist'))
        for loss in value).backward()
    assert model.backbone.conv1.weight.grad.abs().sum() > 0 if hasattr(model.backbone, 'conv1') \
        else model.backbone.stem[0].weight.grad.abs().sum() > 0
    assert model.get_submodule(path).cls_embed.weight.grad.abs().sum() > 0


def test_class_map_is_not_compared_with_masks(tmp_path):
    _, config = model_of('mmseg-mask2former')
    teacher = save_teacher(tmp_path / 't.pth', segmentor(classes=3), scope='mmseg')
    model = build(distiller(config, teacher, dict(type='mmkd.KDLoss', on='cls')), scope='mmseg')
    with pytest.raises(ValueError, match='of the student predicts for queries, `cls` of the teacher'
                       ' for a grid.*Points of this pair that can be compared: `backbone`'):
        model.init_weights()


@pytest.mark.parametrize('kind', ZOO)
def test_semantic_is_what_predict_returns(kind):
    package, config = model_of(kind)
    torch.manual_seed(0)
    model = build(config, scope=package)
    model.init_weights()
    model.eval()
    inputs, samples = batch(package)
    path = 'panoptic_head' if package == 'mmdet' else 'decode_head'
    head = model.get_submodule(path)
    with torch.no_grad(), recording(model, [path]) as records:
        outputs = head.forward(model.extract_feat(inputs), samples)
    level, = find_point(model, 'semantic').levels(records)
    size = tuple(level.shape[2:])
    if package == 'mmseg':
        # With this size, `predict` does not interpolate the masks.
        head.forward = lambda *_: outputs
        scores = head.predict(None, [dict(img_shape=size, batch_input_shape=size)] * 2, None)
    else:  # mmdet returns only the queries
        classes, masks = (output[-1] for output in outputs)
        scores = torch.zeros(2, 3, *size)
        for query in range(6):
            of_query = classes[:, query].softmax(-1)[:, :3, None, None]
            scores += of_query * masks[:, query, None].sigmoid()
    assert torch.equal(level.argmax(1), scores.argmax(1))
    torch.testing.assert_close(level.exp(), scores / scores.sum(1, keepdim=True))


@pytest.mark.parametrize('on', ['cls', dict(student='cls', teacher='semantic')])
@pytest.mark.parametrize('loss', ['KDLoss', 'DISTLoss', 'CWDLoss', 'SKDLoss'])
def test_a_segmentor_learns_from_a_mask_transformer(tmp_path, loss, on):
    teacher = save_teacher(tmp_path / 't.pth', model_of('mmseg-mask2former')[1], scope='mmseg')
    model = build(distiller(segmentor(classes=3), teacher, dict(type=f'mmkd.{loss}', on=on)),
                  scope='mmseg')
    model.init_weights()
    losses, seen, told = step(model, *batch('mmseg'))
    (own, ), (theirs, ) = model.terms[0].levels(seen, told)
    assert own.shape == theirs.shape
    value = sum(sum(value) if isinstance(value, list) else value
                for name, value in losses.items() if name.startswith('loss_cls_'))
    value.backward()
    assert model.decode_head.conv_seg.weight.grad.abs().sum() > 0


def test_table_lists_semantic_and_the_teachers_own_points():
    findings = inspect_pair(*(Config(dict(default_scope='mmseg', model=one))
                              for one in (segmentor(classes=3), model_of('mmseg-mask2former')[1])))
    assert findings[0].verdict == 'as it is, with `semantic` of the teacher'
    alone = [one.point for one in findings if not one.is_of_student]
    assert {'mask', 'cls.0', 'semantic'} < set(alone)
    last = table_of(findings, width=160).rsplit('├', 1)[1].splitlines()
    cells = [line.split('│') for line in last if line.count('│') == 5]
    assert ' '.join(one[3].strip() for one in cells).strip() == ', '.join(alone)
    assert cells[0][4].strip().startswith('no: no points of')


def test_grid_scores_are_not_compared_with_queries(tmp_path):
    _, config = model_of('mmseg-mask2former')
    teacher = save_teacher(tmp_path / 't.pth', segmentor(classes=3), scope='mmseg')
    model = build(distiller(config, teacher, dict(
        type='mmkd.KDLoss', on=dict(student='semantic', teacher='cls'))), scope='mmseg')
    with pytest.raises(ValueError, match='so it has no masks for the queries'):
        model.init_weights()
