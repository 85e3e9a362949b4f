"""Heads of mmdet whose losses get the positions by image instead of by level."""
import pytest
import torch
from conftest import build, distiller, retinanet, save_teacher
from loops import images
from mmengine.config import Config

from mmkd.files.zoo import config_path
from mmkd.losses import LOSSES, DistillLoss

SEEN = []


@pytest.fixture(autouse=True)
def asking():
    @LOSSES.register
    class PeekLoss(DistillLoss):

        def compare(self, student, teacher, weight=None, *, labels):
            SEEN.append(labels)
            return (student - teacher).abs().mean()

    SEEN.clear()
    yield
    del LOSSES.classes['PeekLoss']


def shrunken(name, **head):
    """Return a detector of the zoo with the backbone and neck of the tests' RetinaNet."""
    config = Config.fromfile(config_path(f'mmdet::{name}')).model.to_dict()
    plain = retinanet()
    config.update(backbone=plain['backbone'], neck=dict(
        plain['neck'], **{key: value for key, value in config['neck'].items()
                          if key in ('start_level', 'add_extra_convs', 'num_outs')}))
    config['bbox_head'].update(num_classes=3, in_channels=16, feat_channels=16, stacked_convs=1,
                               **head)
    return config


HEADS = {
    'PAA': lambda: shrunken('paa/paa_r50_fpn_1x_coco.py', norm_cfg=dict(type='BN')),
    'PISA': lambda: shrunken(
                             'pisa/retinanet-r50_fpn_pisa_1x_coco.py'),
    'ATSS': lambda: shrunken('atss/atss_r50_fpn_1x_coco.py', norm_cfg=dict(type='BN')),
    'FCOS': lambda: shrunken('fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
                             norm_cfg=dict(type='BN')),
}


@pytest.mark.parametrize('name', HEADS)
def test_equal_images_get_equal_labels(tmp_path, name):
    config = HEADS[name]()
    torch.manual_seed(0)
    teacher = save_teacher(tmp_path / 't.pth', config)
    model = build(distiller(config, teacher, dict(type='mmkd.PeekLoss', on='cls')))
    model.init_weights()
    SEEN.clear()
    data = model.data_preprocessor(images((0, 0)), True)
    model(**data, mode='loss')
    assert sum(((one >= 0) & (one < 3)).sum() for one in SEEN) > 0
    for labels in SEEN:
        first, second = labels.chunk(2)
        assert torch.equal(first, second)


def test_background_of_heads_with_other_orders(tmp_path):
    config = HEADS['PAA']()
    teacher = save_teacher(tmp_path / 't.pth', config)
    entry = dict(type='mmkd.KDLoss', on='cls', alpha=0.5, replaces='background', per_anchor=True)
    model = build(distiller(config, teacher, entry))
    model.init_weights()
    weights, term = [], model.terms[0]
    compare = term.loss.forward
    term.loss.forward = lambda s, t, w, **named: (weights.append(w), compare(s, t, w, **named))[1]
    model(**model.data_preprocessor(images((0, 0)), True), mode='loss')
    assert any((one == 0).any() for one in weights)
    for weight in weights:
        assert torch.equal(*weight.chunk(2))
