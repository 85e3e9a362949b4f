"""Faster settings of a frozen teacher: the change of its outputs, and unsupported settings."""
import pytest
import torch
from conftest import build, detector_config, distiller, retinanet, save_teacher, train
from torch import nn

from mmkd.networks import fast
from mmkd.networks.fast import Fast

DIST = dict(type='mmkd.DISTLoss', on='cls')


@pytest.fixture
def teacher(tmp_path):
    return save_teacher(tmp_path / 'teacher.pth', retinanet(width=12))


@pytest.mark.slow
@pytest.mark.parametrize(('settings', 'rel'), [
    (dict(fuse=True), 1e-4), (dict(channels_last=True), 1e-4),
    (dict(precision='bf16'), 0.05), (dict(fuse=True, channels_last=True, precision='bf16'), 0.05)],
    ids=['fuse', 'channels_last', 'bf16', 'all'])
def test_losses_stay_close(shapes, tmp_path, teacher, monkeypatch, settings, rel):
    # Try half precision even if this machine only emulates it.
    monkeypatch.setattr(fast, 'supported', lambda dtype, said: dtype)
    _, exact = train(detector_config(shapes, distiller(retinanet(), teacher, DIST),
                                     str(tmp_path / 'exact')))
    runner, found = train(detector_config(shapes, distiller(
        retinanet(), dict(teacher, **settings), DIST), str(tmp_path / 'fast')))
    assert found[0] == pytest.approx(exact[0], rel=rel)
    changes = runner.model.teacher.fast.changes
    assert set(changes) == {key if flag is True else flag for key, flag in settings.items()}
    assert all(moved < (0.02 if name == 'bf16' else 1e-4) for name, moved in changes.items())
    if 'precision' in settings:
        assert found[0]['loss_cls_dist'] != exact[0]['loss_cls_dist']
    network = runner.model.teacher.model
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert (norms == 0) == bool(settings.get('fuse'))
    assert not any(p.requires_grad for p in network.parameters())
    is_last = network.backbone.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert is_last == bool(settings.get('channels_last'))


def test_compiled_teacher_has_equal_outputs(teacher, monkeypatch):
    monkeypatch.setattr(torch, 'compile', compile_by_tracing)
    model = build(distiller(retinanet(), dict(teacher, compile=True), DIST))
    model.init_weights()
    image = torch.randn(1, 3, 64, 64)
    exact = model.distillation.ask({'student': {}}, image, None, model.terms)
    model.distillation.begin()
    assert sorted(model.teacher.fast._compiled) == ['backbone', 'neck']
    told = model.distillation.ask({'student': {}}, image, None, model.terms)
    for key, answers in exact['teacher'].items():
        for point, answer in answers.items():
            torch.testing.assert_close(told['teacher'][key][point].levels, answer.levels)


def compile_by_tracing(forward, dynamic):
    """Replaces the compiler, which takes a minute."""
    assert dynamic
    return lambda *args: forward(*args)


@pytest.mark.slow
@pytest.mark.parametrize(('settings', 'message'), [
    (dict(compile=True), '`compile=True` is not used for the teacher'),
    (dict(precision='fp16'), "`precision='fp16'` is not used for the teacher")])
def test_unsupported_settings_give_a_warning(
        shapes, tmp_path, teacher, monkeypatch, settings, message):
    def fail(*args, **kwargs):
        raise ValueError('not on this machine')

    monkeypatch.setattr(torch, 'compile', fail)
    monkeypatch.setattr(fast, 'supported', fail)
    _, exact = train(detector_config(shapes, distiller(retinanet(), teacher, DIST),
                                     str(tmp_path / 'exact')))
    _, found = train(detector_config(shapes, distiller(
        retinanet(), dict(teacher, **settings), DIST), str(tmp_path / 'fast')))
    assert found == exact
    log, = (tmp_path / 'fast').rglob('*.log')
    assert log.read_text().count(message) == 1


class NormBeforeConv(nn.Module):
    """The norm precedes the convolution, so folding the norm into it would be wrong."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.bn.running_mean.uniform_(-1, 1)

    def forward(self, x):
        return self.conv(self.bn(x))


def test_folding_that_changes_the_output_is_undone():
    torch.manual_seed(0)
    model, noise = NormBeforeConv().eval(), torch.rand(1, 3, 4, 4)
    weight = model.conv.weight.clone()

    def answer(network):
        with torch.no_grad():
            return [network(noise)]

    settings = Fast(fuse=True)
    assert settings.settle(model, answer) is model
    assert isinstance(model.bn, nn.BatchNorm2d)
    assert torch.equal(model.conv.weight, weight)
    assert not settings.changes


def test_inheriting_takes_the_weights_before_they_are_folded(teacher):
    config = distiller(retinanet(width=12), dict(teacher, fuse=True), DIST)
    model = build(dict(config, inherit='backbone'))
    model.init_weights()
    model.distillation.begin()
    saved = torch.load(teacher['checkpoint'], weights_only=False)['state_dict']
    for name, tensor in model.state_dict().items():
        if name.startswith('backbone.') and 'num_batches' not in name:
            assert torch.equal(tensor, saved[name])


@pytest.mark.parametrize(('settings', 'error', 'message'), [
    (dict(precision='int8'), ValueError, "`teacher.precision` must be 'bf16', 'fp16' or None"),
    (dict(fuse='yes'), TypeError, "`teacher.fuse` must be True or False, but got 'yes'")])
def test_mistakes_are_named(teacher, settings, error, message):
    with pytest.raises(error, match=message):
        build(distiller(retinanet(), dict(teacher, **settings), DIST))
