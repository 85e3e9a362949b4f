"""Mask transformers: the queries of both models are paired by class and mask, then compared."""
import numpy as np
import pytest
import torch
from conftest import build, distiller, observe, save_teacher, segmentor, step
from mmengine.config import Config
from mmengine.structures import InstanceData, PixelData
from test_segmentor import knet
from torch.nn.functional import interpolate

from mmkd import KDLoss
from mmkd.files.zoo import config_path
from mmkd.inspection import inspect_pair, table_of
from mmkd.points import find_point
from mmkd.points.queries import Queries, class_map
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


def pixel_student(classes=3):
    """A segmentor whose map of classes is as large as its input."""
    model = segmentor(classes=classes)
    model['backbone'] = dict(type='UNet', base_channels=4, num_stages=2, strides=(1, 1),
                             enc_num_convs=(1, 1), dec_num_convs=(1, ), downsamples=(True, ),
                             enc_dilations=(1, 1), dec_dilations=(1, ))
    model['decode_head'].update(type='FCNHead', in_channels=4, in_index=1, channels=4)
    model['decode_head'].pop('pool_scales')
    model.pop('auxiliary_head')
    return model


def scores_of_predict(model, package, inputs, samples):
    """Scores of each class in the padded size of the input, as predict of the package has them."""
    features = model.extract_feat(inputs)
    if package == 'mmseg':
        return model.decode_head.predict(features, [one.metainfo for one in samples], None)
    # mmdet returns the queries, its masks in this size, and adds up nothing.
    classes, masks = model.panoptic_head.predict(features, samples)
    return sum(classes[:, query].softmax(-1)[:, :3, None, None] *
               masks[:, query, None].sigmoid() for query in range(classes.shape[1]))


@pytest.mark.parametrize('kind', ZOO)
def test_semantic_in_the_size_of_the_input_is_what_predict_returns(tmp_path, kind):
    package, config = model_of(kind)
    teacher = save_teacher(tmp_path / 't.pth', config, scope=package)
    model = build(distiller(pixel_student(), teacher, dict(type='mmkd.KDLoss', on='cls')),
                  scope='mmseg')
    model.init_weights()
    network = model.teacher.model.eval()
    # Masks that differ within a few pixels, and queries that are sure of a class.
    inputs, samples = batch(package)
    inputs[:, :, :, 48:] = 0  # padding
    head = network.get_submodule('panoptic_head' if package == 'mmdet' else 'decode_head')
    for layer, name in ((head.cls_embed, 'logits'), (head.mask_embed[-1], 'where')):
        values = getattr(queries_of(network, package, inputs, samples), name)
        layer.weight.data.mul_(4 / values.std())
        layer.bias.data.zero_()
    (own, ), (told, ) = model.terms[0].levels(*observe(model, inputs))
    with torch.no_grad():
        scores = scores_of_predict(network, package, inputs, samples)
    assert own.shape == told.shape == scores.shape == (2, 3, 64, 64)
    assert torch.equal(told.argmax(1), scores.argmax(1))
    shares = scores / scores.sum(1, keepdim=True)
    torch.testing.assert_close(told.exp(), shares, atol=1e-5, rtol=0)
    if package == 'mmseg':  # the whole way, to the labels
        labels = torch.stack([one.pred_sem_seg.data for one in network.predict(inputs, samples)])
        assert torch.equal(told.argmax(1, keepdim=True), labels)


def test_semantic_of_san_is_what_its_head_predicts():
    from mmseg.models.decode_heads import SideAdapterCLIPHead
    torch.manual_seed(0)
    classes, masks = torch.randn(2, 6, 4) * 3, torch.randn(2, 6, 8, 8) * 3
    scores = SideAdapterCLIPHead.predict_by_feat(None, [masks, classes],
                                                 [dict(img_shape=(32, 48))] * 2)
    queries = Queries(classes.transpose(1, 2), masks, use_sigmoid=False)
    shares = scores / scores.sum(1, keepdim=True)
    torch.testing.assert_close(class_map(queries, (32, 48)).exp(), shares, atol=1e-5, rtol=0)
    # Interpolated log-probabilities are something else.
    late = interpolate(class_map(queries), size=(32, 48), mode='bilinear', align_corners=False)
    assert (late.exp() - shares).abs().max() > 0.1


def test_knet_in_the_size_of_the_input_is_what_predict_returns():
    teacher = dict(config=dict(default_scope='mmseg', model=knet()), checkpoint=None)
    model = build(distiller(pixel_student(19), teacher, dict(type='mmkd.KDLoss', on='cls')),
                  scope='mmseg')
    model.init_weights()
    inputs, samples = batch('mmseg')
    (own, ), (told, ) = model.terms[0].levels(*observe(model, inputs))
    with torch.no_grad():
        found = model.teacher.model.predict(inputs, samples)
    assert own.shape == told.shape == (2, 19, 64, 64)
    torch.testing.assert_close(told, torch.stack([one.seg_logits.data for one in found]),
                               atol=1e-5, rtol=0)
    assert torch.equal(told.argmax(1, keepdim=True),
                       torch.stack([one.pred_sem_seg.data for one in found]))


def queries_of(network, package, inputs, samples):
    path = 'panoptic_head' if package == 'mmdet' else 'decode_head'
    with torch.no_grad(), recording(network, [path]) as records:
        network.get_submodule(path).forward(network.extract_feat(inputs), samples)
    one, = find_point(network, 'semantic').answer(records).queries
    return one


def test_semantic_in_the_size_of_the_masks_and_of_a_smaller_map():
    """By loops: mask logits are interpolated, then the sigmoid is taken, then the sum."""
    torch.manual_seed(0)
    queries = Queries(torch.randn(1, 4, 5) * 3, torch.randn(1, 5, 4, 4) * 3, use_sigmoid=False)
    for size in (4, 2):
        scores = torch.zeros(3, size, size)
        masks = queries.where[0]
        if size == 2:  # the middle of each 2 x 2 square
            masks = masks.unflatten(1, (2, 2)).unflatten(3, (2, 2)).mean((2, 4))
        for c in range(3):
            for q in range(5):
                scores[c] += queries.logits[0, :, q].softmax(0)[c] * masks[q].sigmoid()
        found = class_map(queries, (size, size))[0]
        torch.testing.assert_close(found.exp(), scores / scores.sum(0))
    torch.testing.assert_close(class_map(queries), class_map(queries, (4, 4)))


@pytest.mark.slow
@pytest.mark.parametrize('stored_as', ['float32', 'float16'])
def test_a_cache_keeps_the_queries_of_semantic(tmp_path, stored_as):
    teacher = save_teacher(tmp_path / 't.pth', model_of('mmseg-mask2former')[1], scope='mmseg')
    cached = dict(teacher, type='mmkd.CachedTeacher', cache=str(tmp_path / 'answers'),
                  stored_as=stored_as)
    found = []
    for entry in (teacher, cached, cached):
        model = build(distiller(pixel_student(), entry, dict(type='mmkd.KDLoss', on='cls')),
                      scope='mmseg')
        model.init_weights()
        model.teacher.begin()
        found.append(model.terms[0].levels(*observe(model, batch('mmseg')[0]))[1][0])
    assert model.teacher.found == 2
    for one in found[1:]:
        torch.testing.assert_close(one, found[0], atol=1e-5 if stored_as == 'float32' else 2e-3,
                                   rtol=0)


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
