"""The examples with teachers from timm and torchvision.

Where a package is not installed, a small module replaces its model, so the example is always read
and trained.
"""
import os
import sys
import types

import pytest
from conftest import build, detector_config, retinanet
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
