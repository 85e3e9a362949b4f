"""Checkpoints of any model family can be published, and the published files predict the same."""
import argparse
import importlib
import os

import pytest
import torch
from conftest import build, retinanet, save_teacher, segmentor
from mmengine.config import Config
from support.tools import BENCHMARKS, TOOLS

from mmkd.files.checkpoint import read_checkpoint


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module('publish_student')


def options(path, **more):
    return argparse.Namespace(**dict(dict(
        checkpoint=str(path), config='small.py', out=None, name=None, format='pth', half=False,
        size=None), **more))


@pytest.mark.slow
@pytest.mark.parametrize(('folder', 'crop_size', 'compared'), [
    # changes its config
    ('mmdet::deformable_detr', None, 'features and raw outputs and predictions'),
    # has heads in a list, and no raw outputs
    ('mmseg::point_rend', (64, 128), 'features and predictions of an image of 64x128'),
    # its pooling needs 49x49 positions of stride 8, more than 256 pixels have
    ('mmseg::mobilenet_v3', (392, 400), 'predictions of an image of 392x400'),
])
def test_families_with_special_cases(tool, monkeypatch, folder, crop_size, compared):
    """With a smaller crop than in the config, to save time."""
    zoo = importlib.import_module('publish_zoo')
    read = Config.fromfile

    def small(path, **more):
        config = read(path, **more)
        if crop_size is not None:
            config.crop_size = crop_size
            for holder in (config, config.get('model') or {}):
                if 'data_preprocessor' in holder:
                    holder['data_preprocessor'].update(size=crop_size)
        return config

    monkeypatch.setattr(Config, 'fromfile', small)
    monkeypatch.setattr(zoo, 'SIZE', None)
    found = zoo.publish_one(folder)
    assert found.is_published, found.said
    assert compared in found.said


def test_published_file_is_the_models(tool, tmp_path):
    config = Config(dict(default_scope='mmdet', model=retinanet()))
    checkpoint = save_teacher(tmp_path / 'epoch_1.pth', retinanet())['checkpoint']
    path, compared = tool.publish(config, options(checkpoint))
    assert os.path.basename(path).startswith('small-')
    assert 'of an image of 256x256' in compared
    given, found = (read_checkpoint(one)['state_dict'] for one in (checkpoint, path))
    assert given.keys() == found.keys()
    assert all(torch.equal(given[key], found[key]) for key in given)
    half, _ = tool.publish(config, options(checkpoint, half=True, name='half'))
    assert read_checkpoint(half)['state_dict']['backbone.conv1.weight'].dtype == torch.float16


def test_file_with_other_predictions_is_not_written(tool, tmp_path, monkeypatch):
    config = Config(dict(default_scope='mmdet', model=retinanet()))
    checkpoint = save_teacher(tmp_path / 'epoch_1.pth', retinanet())['checkpoint']
    write = tool.write

    def written_wrongly(path, weights, meta):
        weights = dict(weights)
        weights['bbox_head.retina_cls.bias'] = weights['bbox_head.retina_cls.bias'] + 1e-3
        write(path, weights, meta)

    monkeypatch.setattr(tool, 'write', written_wrongly)
    with pytest.raises(ValueError, match='in .*raw outputs; nothing was written'):
        tool.publish(config, options(checkpoint))
    assert [path.name for path in tmp_path.iterdir()] == ['epoch_1.pth']


def test_checkpoint_of_another_model_is_not_published(tool, tmp_path):
    config = Config(dict(default_scope='mmdet', model=retinanet()))
    checkpoint = save_teacher(tmp_path / 'epoch_1.pth', retinanet(width=12))['checkpoint']
    with pytest.raises(ValueError, match='does not fit its config'):
        tool.publish(config, options(checkpoint))
    assert [path.name for path in tmp_path.iterdir()] == ['epoch_1.pth']


def test_sizes_are_what_the_config_says(tool):
    model = dict(type='X', data_preprocessor=dict(size=(64, 128)), backbone=dict(img_size=160))
    pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(2048, 1024))]
    config = Config(dict(model=model, crop_size=(96, 96), test_dataloader=dict(dataset=dict(
        type='RepeatDataset', dataset=dict(pipeline=pipeline)))))
    assert tool.sizes_of(config) == [(64, 128), (96, 96), (160, 160), (256, 256), (1024, 2048)]
    assert tool.sizes_of(Config(dict(model=dict(type='X')))) == [(256, 256)]


def test_model_without_a_usable_size_is_reported(tool, tmp_path):
    config = Config(dict(default_scope='mmseg', model=segmentor()))
    config.model.backbone.type = 'ResNetV1c'
    torch.save(dict(meta={}, state_dict=build(segmentor(), 'mmseg').state_dict()),
               tmp_path / 'iter_1.pth')
    with pytest.raises(ValueError, match='at none of the sizes 1x1: .*Write --size H W'):
        tool.publish(config, options(tmp_path / 'iter_1.pth', size=[1, 1]))
