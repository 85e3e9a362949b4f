"""A partner that diverges, or whose name is a key of the run, does not affect the student."""
import os

import pytest
import torch
from conftest import detector_config, record_losses, retinanet, saved_at, train
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmkd.registry import MODELS
from mmkd.training.health import Health

KD = dict(type='mmkd.KDLoss', on=dict(student='cls', teacher='other:cls'))


def config_of(shapes, folder, *distill, name='other', epochs=2, **partner):
    model = dict(
        type='mmkd.Distiller', student=retinanet(), nonfinite_limit=50,
        companions={name: dict(config=dict(model=retinanet(width=12)), **partner)},
        distill=list(distill) or [KD])
    return changed(shapes, folder, model, epochs)


def changed(shapes, folder, model, epochs=2):
    return detector_config(shapes, model, str(folder), **{
        'train_cfg.max_epochs': epochs, 'train_cfg.val_interval': 100,
        'default_hooks.checkpoint.type': 'mmkd.CheckpointHook',
        'optim_wrapper.clip_grad': dict(max_norm=0.1, norm_type=2),
        'optim_wrapper.optimizer.momentum': 0.9})


class SetNaN(Hook):
    """Sets weights of the partner to NaN at a step."""

    def __init__(self, step):
        self.step = step

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.step:
            with torch.no_grad():
                runner.model.distillation.partners['other'].model.backbone.conv1.weight.fill_(
                    float('nan'))


def run(config, *hooks):
    runner = Runner.from_cfg(config)
    for hook in hooks:
        runner.register_hook(hook)
    losses = record_losses(runner)
    runner.train()
    return runner, losses


def log_of(folder):
    path, = folder.rglob('*.log')
    return path.read_text()


def test_diverging_partner_does_not_affect_the_student(shapes, tmp_path):
    """Bit for bit, although gradients are clipped by their norm over all networks."""
    plain, _ = run(changed(shapes, tmp_path / 'plain', retinanet()))
    runner, losses = run(config_of(shapes, tmp_path / 'run'), SetNaN(0))
    expected = plain.model.state_dict()
    for name, value in runner.model.state_dict().items():
        assert torch.equal(value, expected[name]), name
    for one in losses:
        assert one['other.loss_cls'] == one['other.loss_bbox'] == one['loss_cls_kd_from_other'] == 0
    health = runner.model.distillation.health
    assert health.left_out == dict(other=4, loss_cls_kd_from_other=4)
    text = log_of(tmp_path / 'run')
    assert 'the losses of `other` are infinite or NaN and were left out of this step, ' \
           'once so far: `other.loss_cls` is nan' in text
    assert 'its training diverges: lower its `loss_weight`' in text
    assert not (tmp_path / 'run' / 'other.pth').exists()
    assert 'The partner `other` is not written to' in text


def test_infinite_gradients_are_excluded_from_the_norm(shapes, tmp_path, monkeypatch):
    """The losses are finite, but their gradients are not. The student is not affected."""
    @MODELS.register_module(force=True)
    class Steep(MODELS.get('mmkd.Partner')):

        def learn_from(self, *args):
            # The root of 0 is 0, with an infinite derivative.
            root = (self.model.backbone.conv1.weight.sum() * 0).sqrt()
            return dict(super().learn_from(*args), loss_root=root)

    plain, _ = run(changed(shapes, tmp_path / 'plain', retinanet()))
    runner, losses = run(config_of(shapes, tmp_path / 'run', dict(KD, loss_weight=0.), type=Steep))
    assert all(torch.isfinite(torch.tensor(list(one.values()))).all() for one in losses)
    expected = plain.model.state_dict()
    for name, value in runner.model.state_dict().items():
        assert torch.equal(value, expected[name]), name
    distillation = runner.model.distillation
    assert distillation.health.left_out == dict(other=4)
    assert all(p.isfinite().all() for p in distillation.partners['other'].model.parameters())
    assert ('the gradients of `other` are infinite or NaN and were left out of this step, '
            'once so far: of ') in log_of(tmp_path / 'run')


def test_partner_that_stays_nan_stops_the_run(shapes, tmp_path):
    config = config_of(shapes, tmp_path / 'run', dict(KD, loss_weight=0.5))
    config.model.nonfinite_limit = 2
    runner = Runner.from_cfg(config)
    runner.register_hook(SetNaN(1))
    with pytest.raises(FloatingPointError, match='the losses of `other` were infinite or NaN in 2 '
                                                 'steps in a row: `other.loss_cls` is nan.*its '
                                                 'training'):
        runner.train()


def test_terms_of_a_diverged_network_are_left_out():
    health = Health()
    terms = {name: [torch.tensor(1., requires_grad=True)] for name in ('loss_a', 'loss_b')}
    checked, own = health.check(terms, None, {'one': dict(loss=torch.tensor(float('inf')), acc=1),
                                        'two': dict(loss=[torch.tensor(1.)])},
                          dict(loss_a='one', loss_b='two'))
    assert health.spoilt == {'one'}
    assert checked['loss_a'][0] == 0
    assert not checked['loss_a'][0].requires_grad
    assert checked['loss_b'][0] is terms['loss_b'][0]
    assert own['one']['loss'] == 0
    assert (own['one']['acc'], own['two']['loss'][0]) == (1, 1)
    assert health.left_out == dict(one=1)
    health.check({}, None, {'one': dict(loss=torch.tensor(1.))})
    assert health.spoilt == set()


@pytest.mark.parametrize(('name', 'template'), [
    ('epoch_1', None), ('iter_20', None), ('best_of_all', None), ('model_7', 'model_{}.pth')])
def test_partner_names_of_checkpoints_are_refused(shapes, tmp_path, name, template):
    config = config_of(shapes, tmp_path, dict(KD, on=dict(student='cls', teacher=f'{name}:cls')),
                       name=name)
    if template:
        config.default_hooks.checkpoint.filename_tmpl = template
    with pytest.raises(ValueError, match=f'the file of the companion `{name}`, {name}.pth, would '
                       'overwrite a checkpoint of the student at the end of training; use another'):
        Runner.from_cfg(config).train()
    assert not list(tmp_path.glob('*.pth'))


def test_start_checkpoint_of_a_partner_is_not_overwritten(shapes, tmp_path):
    train(config_of(shapes, tmp_path / 'run', epochs=1))
    written = tmp_path / 'run' / 'other.pth'
    assert saved_at(written)['meta']['mmkd']['distill'][0]['name'] == 'loss_cls_kd_from_other'
    before = written.read_bytes()
    with pytest.raises(ValueError, match='the partner `other` would overwrite .*other.pth, '
                       'the checkpoint from which `other` starts'):
        Runner.from_cfg(config_of(shapes, tmp_path / 'run', checkpoint=str(written))).train()
    assert written.read_bytes() == before


def test_partner_checkpoint_is_complete_or_absent(shapes, tmp_path, monkeypatch):
    from mmengine.fileio import LocalBackend
    put = LocalBackend.put

    def cut(self, content, path):
        if 'other' not in os.path.basename(str(path)):
            return put(self, content, path)
        put(self, content[:1000], path)
        raise KeyboardInterrupt

    train(config_of(shapes, tmp_path / 'run', epochs=1))
    before = (tmp_path / 'run' / 'other.pth').read_bytes()
    monkeypatch.setattr(LocalBackend, 'put', cut)
    with pytest.raises(KeyboardInterrupt):
        train(config_of(shapes, tmp_path / 'run', epochs=1))
    assert (tmp_path / 'run' / 'other.pth').read_bytes() == before
    assert not list((tmp_path / 'run').glob('*.part*'))
