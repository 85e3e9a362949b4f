"""The shares of the terms in one step, compared with plain gradients of what the model returns."""
from types import SimpleNamespace

import pytest
import torch
from conftest import build, distiller, retinanet
from support.pairs import dense, rois, streets
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmkd.training.share_meter import preserved_buffers


def ready(student, teacher, scope, *entries):
    model = build(distiller(student, teacher, *entries), scope)
    model.init_weights()
    return model.train()


def measured(model, data, **options):
    """The losses of one step, and its shares."""
    meter = model.distillation.share_meter
    meter.is_on = True
    losses = model(**model.data_preprocessor(data, True), mode='loss', **options)
    return losses, meter.read()


def plain_shares(model, data, path, names):
    """Quotients of norms at the outputs of a module, over the outputs that a term reaches."""
    kept = []
    handle = model.student.get_submodule(path).register_forward_hook(
        lambda module, args, output: kept.extend(output))
    losses = model(**model.data_preprocessor(data, True), mode='loss')
    handle.remove()
    sums = {name: sum(value) if isinstance(value, (list, tuple)) else value
            for name, value in losses.items() if 'loss' in name}
    task = sum(value for name, value in sums.items() if name not in names)
    found = {}
    for name in names:
        own, its = (torch.autograd.grad(value, kept, retain_graph=True, allow_unused=True)
                    for value in (sums[name], task))
        norms = [torch.cat([one.flatten() for one, used in zip(side, own) if used is not None])
                 .norm() for side in (own, its)]
        found[name] = (norms[0] / norms[1]).item()
    return found


@pytest.mark.parametrize('pair', [dense, rois, streets])
def test_shares_on_whole_models_equal_plain_gradients(pair, tmp_path):
    """With the weight of the config and the factor of a schedule; the graph is kept."""
    student, teacher, batch, scope, (features, logits) = pair(tmp_path)
    model = ready(student, teacher, scope,
                  dict(type='mmkd.MSELoss', on=features, loss_weight=3.),
                  dict(type='mmkd.KDLoss', on=logits))
    model.terms[1].factor = 0.25
    names = [f'loss_{features}_mse', 'loss_cls_kd']
    torch.manual_seed(0)
    losses, shares = measured(model, batch)
    torch.manual_seed(0)
    assert shares == pytest.approx(plain_shares(model, batch, features, names), rel=1e-4)
    sum(sum(value) if isinstance(value, (list, tuple)) else value
        for name, value in losses.items() if 'loss' in name).backward()


def test_the_meter_is_off_by_default_and_after_a_step(tmp_path):
    student, teacher, batch, scope, _ = dense(tmp_path)
    model = ready(student, teacher, scope, dict(type='mmkd.KDLoss', on='cls'))
    data = model.data_preprocessor(batch, True)
    meter = model.distillation.share_meter
    model(**data, mode='loss')
    assert meter.read() == {}
    _, shares = measured(model, batch)
    assert list(shares) == ['loss_cls_kd']
    model(**data, mode='loss')
    assert meter.read() == {}
    meter.is_on = True
    with torch.no_grad():
        model(**data, mode='loss')
    assert meter.read() == {}


def test_terms_without_a_gradient_have_the_share_0(tmp_path):
    """One is turned off by a schedule, the other by its weight."""
    student, teacher, batch, scope, _ = dense(tmp_path)
    model = ready(student, teacher, scope, dict(type='mmkd.MSELoss', on='neck'),
                  dict(type='mmkd.KDLoss', on='cls', loss_weight=0.),
                  dict(type='mmkd.DISTLoss', on='cls'))
    model.terms[0].factor = 0.
    _, shares = measured(model, batch)
    assert shares.pop('loss_cls_dist') > 0
    assert shares == dict(loss_neck_mse=0., loss_cls_kd=0.)


def test_a_term_that_is_not_finite_has_no_share_or_0(tmp_path):
    student, teacher, batch, scope, _ = dense(tmp_path)
    model = ready(student, teacher, scope, dict(type='mmkd.MSELoss', on='neck'),
                  dict(type='mmkd.KDLoss', on='cls', loss_weight=1e30))
    model.terms[1].factor = 1e30
    _, shares = measured(model, batch)
    assert shares['loss_neck_mse'] > 0
    assert shares.get('loss_cls_kd', 0.) == 0.


def test_weights_that_are_still_measured_are_left_out(tmp_path):
    student, teacher, batch, scope, _ = dense(tmp_path)
    model = ready(student, teacher, scope, dict(type='mmkd.KDLoss', on='cls'), dict(
        type='mmkd.MSELoss', on='neck', loss_weight=dict(share=0.3, iters=2)))
    assert list(measured(model, batch)[1]) == ['loss_cls_kd']
    assert list(measured(model, batch)[1]) == ['loss_cls_kd', 'loss_neck_mse']
    shares = measured(model, batch)[1]
    assert 0.1 < shares['loss_neck_mse'] < 0.9


def test_terms_of_other_learners_are_left_out(tmp_path):
    student, _, batch, scope, _ = dense(tmp_path)
    model = build(dict(
        type='mmkd.Distiller', student=student, companions=dict(other=dict(config=dict(
            default_scope='mmdet', model=retinanet(width=12)))),
        distill=[dict(type='mmkd.KDLoss', on='cls', between=['student', 'other'])]), scope)
    model.init_weights()
    _, shares = measured(model.train(), batch)
    assert len(model.terms) == 2
    assert [term.spec.learner for term in model.terms if term.name in shares] == ['student']


def test_shares_do_not_depend_on_the_scale_of_a_loss_scaler(tmp_path, monkeypatch):
    scaled = []

    def scale(loss):
        scaled.append(loss)
        return 1024 * loss

    monkeypatch.setattr('mmkd.training.share_meter.current_scaler',
                        lambda: SimpleNamespace(scale=scale))
    student, teacher, batch, scope, _ = dense(tmp_path)
    model = ready(student, teacher, scope, dict(type='mmkd.MSELoss', on='neck', loss_weight=3.))
    expected = plain_shares(model, batch, 'neck', ['loss_neck_mse'])
    assert measured(model, batch)[1] == pytest.approx(expected, rel=1e-4)
    assert scaled == [1.]


class Checkpointed(nn.Module):
    """Computes a module again in the backward pass."""

    def __init__(self, module, use_reentrant):
        super().__init__()
        self.module, self.use_reentrant = module, use_reentrant

    def forward(self, x):
        return checkpoint(self.module, x, use_reentrant=self.use_reentrant)


def checkpointed(folder, use_reentrant):
    torch.manual_seed(0)
    student, teacher, batch, scope, _ = dense(folder)
    model = ready(student, teacher, scope, dict(type='mmkd.KDLoss', on='cls'),
                  dict(type='mmkd.MSELoss', on='neck'))
    head = model.student.bbox_head
    norm = nn.BatchNorm2d(16)
    head.cls_convs[0] = Checkpointed(nn.Sequential(
        head.cls_convs[0].conv, norm, nn.Dropout(0.5), nn.ReLU()), use_reentrant)
    return model, batch, norm


def test_what_is_computed_again_changes_no_statistics(tmp_path):
    """The forward that the backward pass repeats would update the batch norm, 4 times a level."""
    found = []
    for run in (measured, lambda model, batch: (model(
            **model.data_preprocessor(batch, True), mode='loss'), {})):
        model, batch, norm = checkpointed(tmp_path, use_reentrant=False)
        torch.manual_seed(0)
        _, shares = run(model, batch)
        found.append((norm.num_batches_tracked, norm.running_mean, torch.rand(1)))
        assert shares.keys() in ({'loss_cls_kd', 'loss_neck_mse'}, set())
    assert all(map(torch.equal, *found))


def test_a_term_that_cannot_be_measured_is_named_once(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr('mmkd.training.share_meter.warn', said.append)
    model, batch, _ = checkpointed(tmp_path, True)
    for _ in range(2):
        assert measured(model, batch)[1] == {}
    assert [one.split(':')[0] for one in said] == [
        f'mmkd.GradientShareHook cannot log the share of `{name}`'
        for name in ('loss_cls_kd', 'loss_neck_mse')]
    assert 'with_cp=False' in said[0]


def test_buffers_are_restored_without_a_change_that_autograd_sees():
    norm = nn.BatchNorm2d(3).eval()
    loss = norm(torch.rand(2, 3, 4, 4)).sum()
    before = norm.running_mean.clone()
    with preserved_buffers(norm):
        norm.running_mean.data.add_(1.)
    assert torch.equal(norm.running_mean, before)
    loss.backward()
