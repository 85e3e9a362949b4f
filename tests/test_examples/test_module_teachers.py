"""The examples with teachers from timm and torchvision.

Where a package is not installed, a small module replaces its model, so the example is always read
and trained.
"""
import os
import runpy
import sys
import types

import pytest
import torch
from conftest import build, detector_config, distiller, retinanet
from mmengine.config import Config
from support.extensions import train_kill_resume
from support.modules import Detector, TinyViT
from support.neighbours import can_be_imported
from torch import nn

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def timm_without_timm():
    module = types.ModuleType('timm')
    module.list_models = lambda: ['vit_tiny_patch16_224']

    def create_model(name, pretrained, dynamic_img_size):
        model = TinyViT(depth=12)
        model.patch_embed.patch_size, model.num_prefix_tokens = (16, 16), 1
        model.pretrained_cfg = dict(mean=(.5, .5, .5), std=(.5, .5, .5))
        return model

    module.create_model = create_model
    return dict(timm=module)


def torchvision_without_torchvision():
    class FasterRCNN(Detector):
        def __init__(self):
            super().__init__()
            self.transform = nn.Module()
            self.transform.image_mean, self.transform.image_std = [.485] * 3, [.229] * 3

    models = types.ModuleType('torchvision.models')
    models.list_models = lambda: ['fasterrcnn_resnet50_fpn']
    models.get_model_builder = lambda name: lambda weights, weights_backbone: FasterRCNN()
    module = types.ModuleType('torchvision')
    module.models, module.__version__ = models, '0'  # MMEngine logs the version
    return {'torchvision': module, 'torchvision.models': models}


@pytest.mark.parametrize(('name', 'package', 'stand_in'), [
    ('timm_vit_teacher', 'timm', timm_without_timm),
    ('torchvision_fpn_teacher', 'torchvision', torchvision_without_torchvision)])
def test_example_trains_its_student(shapes, tmp_path, monkeypatch, name, package, stand_in):
    if not can_be_imported(package):
        for key, module in stand_in().items():
            monkeypatch.setitem(sys.modules, key, module)
    guest = Config.fromfile(os.path.join(ROOT, 'examples', f'{name}.py'))
    assert type(build(guest.model.student)).__name__ == 'RetinaNet'

    def make(folder, **changes):
        model = dict(guest.model, student=retinanet(), hooks=[dict(type='mmkd.ReseedHook')])
        return detector_config(shapes, model, str(folder), **{
            'train_cfg.max_epochs': 3, 'train_cfg.val_interval': 9, **changes})

    losses, saved = train_kill_resume(make, retinanet(), tmp_path)
    assert all(one['loss_neck_mse'] > 0 for one in losses)
    assert list(saved['mmkd']['connectors']) == ['loss_neck_mse']


def test_the_network_of_the_page_teaches(tmp_path, monkeypatch):
    """docs/teachers.md, 'A network of your own': both blocks."""
    blocks = runpy.run_path(os.path.join(ROOT, 'docs', 'site', 'blocks.py'))['blocks_of']
    code, config = [one.text for one in blocks('docs/teachers.md')
                    if 'class Pyramid' in one.text or 'my_net.Pyramid' in one.text]
    module = types.ModuleType('my_net')
    exec(code, vars(module))
    monkeypatch.setitem(sys.modules, 'my_net', module)
    monkeypatch.chdir(tmp_path)
    torch.save(module.Pyramid(width=48).state_dict(), 'pyramid.pth')
    given = eval(f'dict({config})')
    built = build(distiller(retinanet(), given['teacher'], *given['distill']))
    built.init_weights()
    built.distillation.prepare()
    term, = built.distillation.terms
    assert term.fitting.strides[0] == [(8, 8), (16, 16)]
    assert [one.out_channels for one in term.connectors] == [48, 48]
    with pytest.raises(ValueError, match='has no `checkpoint`'):
        build(distiller(retinanet(), {key: value for key, value in given['teacher'].items()
                                      if key != 'checkpoint'}, *given['distill']))
