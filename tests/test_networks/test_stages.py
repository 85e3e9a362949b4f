"""Point `backbone` of a module from another library: the maps that are compared, and their size."""
import os
import sys

import pytest
import torch
from conftest import build, detector_config, distiller, observe, retinanet, segmentor, train
from support.modules import TinyViT
from torch import nn
from torch.nn.functional import interpolate

from mmkd import ModuleTeacher
from mmkd.inspection import entries_of, inspect_pair
from mmkd.networks.libraries import is_module
from mmkd.points import points_of
from mmkd.written_config import config_text

PIXELS = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
MSE = dict(type='mmkd.MSELoss', on='backbone')


class Stage(nn.Sequential):
    """A ResNet stage with bottlenecks. Its first layer has the stride of the previous stage."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__(nn.Conv2d(before, width, 1), nn.BatchNorm2d(width), nn.ReLU(),
                         nn.Conv2d(width, width, 3, 2, 1))


class Network(nn.Module):
    """A stem, stages in a container, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 7, 2, 3)
        self.stages = nn.Sequential(*[nn.Sequential(Stage(8 * 2**i, 16 * 2**i)) for i in range(4)])
        self.norm = nn.BatchNorm2d(128)
        self.head = nn.Linear(128, 10)

    def forward(self, images):
        return self.head(self.norm(self.stages(self.stem(images))).mean((2, 3)))


def vit(patch=16):
    model = TinyViT(depth=2)
    model.patch = patch
    return model


def prepared(teacher, *entries, student=None, scope='mmdet'):
    torch.manual_seed(0)
    model = build(distiller(student or retinanet(), dict(
        type='mmkd.ModuleTeacher', checkpoint=None, **PIXELS, **teacher), *(entries or [MSE])),
        scope)
    model.prepare()
    return model


def test_the_last_map_of_each_stride(monkeypatch):
    monkeypatch.setattr(sys.modules['support.modules'], 'Network', Network, raising=False)
    model = prepared(dict(build='support.modules.Network'))
    point = points_of(model.teacher.model)['backbone']
    # Not `stages.1.0.0`, which has the stride of the previous stage.
    assert point.paths == tuple(f'module.{path}' for path in (
        'stages.0', 'stages.1', 'stages.2', 'norm'))
    term, = model.terms
    assert term.fitting.strides == ([(4, 4), (8, 8), (16, 16), (32, 32)], ) * 2
    assert [one.out_channels for one in term.connectors] == [16, 32, 64, 128]
    images = torch.randn(2, 3, 64, 96)
    _, told = observe(model, images)
    (answer, ), = [list(one.values()) for one in told.values()]
    network = model.teacher.model.module
    with torch.no_grad():
        x = network.stem(images)
        for n in range(3):
            x = network.stages[n](x)
            torch.testing.assert_close(answer.levels[n], x)
        torch.testing.assert_close(answer.levels[3], network.norm(network.stages[3](x)))


def tokens_of_timm(monkeypatch):
    """Replaces timm by a transformer with known tokens."""
    from mmkd.networks import libraries
    from mmkd.points.layout import Layout

    def made(name, arguments):
        return libraries.Built(vit(), (127.5, ) * 3, (127.5, ) * 3, None, (16, 16),
                               Layout('NLC', 1, (16, 16)))

    monkeypatch.setitem(libraries.LIBRARIES, 'timm', made)
    monkeypatch.setitem(sys.modules, 'timm', sys.modules[__name__])


def test_the_last_tokens_are_resized_to_three_strides(monkeypatch):
    tokens_of_timm(monkeypatch)
    model = prepared(dict(build='timm:vit'))
    term, = model.terms
    assert term.fitting.strides[1] == [(8, 8), (16, 16), (32, 32)]
    assert term.fitting.strides[0] == [(8, 8), (16, 16), (32, 32)]
    images = torch.randn(2, 3, 64, 96)
    _, told = observe(model, images)
    (answer, ), = [list(one.values()) for one in told.values()]
    network = model.teacher.model.module
    with torch.no_grad():
        x = network.patch_embed(images)
        x = (x + interpolate(network.positions, x.shape[2:], mode='bilinear')).flatten(2)
        x = torch.cat([network.cls_token.expand(2, -1, -1), x.transpose(1, 2)], 1)
        x = network.blocks(x)[:, 1:].transpose(1, 2).unflatten(2, (4, 6))
    for level, size in zip(answer.levels, [(8, 12), (4, 6), (2, 3)]):
        torch.testing.assert_close(level, interpolate(x, size, mode='bilinear'))


def test_missing_points_are_explained(monkeypatch):
    tokens_of_timm(monkeypatch)
    with pytest.raises(ValueError, match='no point `cls` in the teacher: mmkd does not know its '
                                         "predictions; compare features by on='backbone'"):
        prepared(dict(build='timm:vit'), dict(type='mmkd.KDLoss', on='cls'))
    with pytest.raises(ValueError, match="no point `neck` .* on=dict.student='neck', teacher="):
        prepared(dict(build='timm:vit'), dict(type='mmkd.MSELoss', on='neck'))
    prepared(dict(build='timm:vit'), dict(MSE, on=dict(student='neck', teacher='backbone')))


@pytest.mark.parametrize('method', ['mimic', 'pkd', 'cka'])
@pytest.mark.parametrize('scope', ['mmdet', 'mmseg'])
def test_methods_of_features_fit(monkeypatch, method, scope):
    from mmengine.config import Config
    tokens_of_timm(monkeypatch)
    student = retinanet() if scope == 'mmdet' else segmentor()
    pair = inspect_pair(Config(dict(default_scope=scope, model=student)),
                        ModuleTeacher('timm:vit', None))
    entry, = entries_of(method, pair)
    assert entry['on'] == 'backbone'
    assert pair.classes == ''


def test_which_teachers_are_modules(tmp_path):
    (tmp_path / 'a.b').write_text('')
    assert all(is_module(one) for one in (
        'timm:resnet18', 'torchvision:resnet18', 'transformers:/models/dino', 'tim:x', 'nets.vit'))
    assert not any(is_module(one) for one in (
        'a.py', 'a/b.py', 'mmdet::a/b.py', 'teacher.pth', 'https://a/b.py', 'teacher',
        str(tmp_path / 'a.b')))


def test_the_config_that_is_written():
    text = config_text('student.py', 'timm:vit', None, [MSE])
    assert "teacher=dict(type='mmkd.ModuleTeacher', build='timm:vit', checkpoint=None)" in text
    text = config_text('student.py', 'teacher.py', 'a.pth', [MSE], classes='/c.json')
    assert "teacher=dict(config='teacher.py', checkpoint='a.pth', classes='/c.json')" in text


@pytest.mark.slow
def test_faster_settings_and_a_cache(shapes, tmp_path, monkeypatch):
    """The teacher trains a student, resumes bit for bit, and reads its outputs from the cache."""
    monkeypatch.setattr(sys.modules['support.modules'], 'Network', Network, raising=False)
    teacher = dict(type='mmkd.ModuleTeacher', build='support.modules.Network', checkpoint=None,
                   **PIXELS)

    def losses(changes, name, epochs, **settings):
        torch.manual_seed(5)  # the same random weights of the teacher
        entry = dict(teacher, **changes)
        config = detector_config(shapes, dict(
            distiller(retinanet(), entry, MSE), hooks=[dict(type='mmkd.ReseedHook')]),
            str(tmp_path / name), **{'train_cfg.max_epochs': epochs}, **settings)
        config.val_cfg = config.val_dataloader = config.val_evaluator = None
        runner, found = train(config)
        return runner.model.teacher, [one['loss_backbone_mse'] for one in found]

    weights = tmp_path / 'network.pth'
    torch.manual_seed(1)
    torch.save(Network().state_dict(), weights)
    teacher['checkpoint'] = str(weights)
    _, whole = losses({}, 'whole', 2)
    _, first = losses({}, 'run', 1)
    _, rest = losses({}, 'run', 2, resume=True)
    assert first + rest == whole
    fast, found = losses(dict(channels_last=True, fuse=True), 'fast', 1)
    assert set(fast.fast.changes) <= {'channels_last', 'fuse'}
    assert 'channels_last' in fast.fast.changes
    assert found == pytest.approx(first, rel=1e-3)
    cached = dict(type='mmkd.CachedModuleTeacher', cache=str(tmp_path / 'cache'),
                  stored_as='float32')
    assert losses(cached, 'c', 1)[1] == pytest.approx(first, rel=1e-5)
    _, found = losses(dict(cached, on_miss='error'), 'd', 1)
    assert found == pytest.approx(first, rel=1e-5)
    assert len(os.listdir(cached['cache'])) > 0
    # Another input size counts as another teacher.
    with pytest.raises(ValueError, match='another teacher|other'):
        losses(dict(cached, input_size=64), 'e', 1)
