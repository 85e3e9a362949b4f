"""A committee returns the mean of its members, compared with a separate computation."""

import pytest
import torch
from conftest import build, distiller, retinanet, save_teacher, step, two_stage
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.testing import demo_mm_inputs

from mmkd import MaskTokens
from mmkd.compare.committee import logits_of_mean
from mmkd.compare.prepared import identity_of
from mmkd.core.prepared_file import write_prepared
from mmkd.losses import DISTLoss, KDLoss, MSELoss


def members(tmp_path, *models, classes=None):
    classes = classes or [('disc', 'square', 'cross')] * len(models)
    return [save_teacher(tmp_path / f'{i}.pth', model, seed=i + 1, classes=names)
            for i, (model, names) in enumerate(zip(models, classes))]


def committee(tmp_path, *distill, student=None, models=None, classes=None, **arguments):
    models = models or (retinanet(width=12), retinanet(depth=34))
    teacher = dict(type='mmkd.Committee', members=members(tmp_path, *models, classes=classes),
                   **arguments)
    torch.manual_seed(3)
    model = build(distiller(student or retinanet(), teacher, *distill))
    model.distillation.stated_classes = ['disc', 'square', 'cross']
    model.init_weights()
    return model


def batch(model):
    torch.manual_seed(5)
    data = model.data_preprocessor(
        demo_mm_inputs(2, (3, 64, 96), num_items=[2, 1], num_classes=3), True)
    return data['inputs'], data['data_samples']


def networks(model):
    return [model.distillation.networks[f'teacher.{i}'].model for i in range(2)]


def test_each_member_has_the_file_of_its_first_stage(tmp_path):
    models = retinanet(width=12), retinanet(depth=34)
    torch.manual_seed(0)
    files = []
    for number, entry in enumerate(members(tmp_path, *models)):
        network = build(dict(type='mmkd.FrozenTeacher', **entry))
        network.prepare(build(retinanet()))
        module = MaskTokens(tokens=2)
        module.setup(16)
        files.append(str(tmp_path / f'{number}_prepared.pth'))
        write_prepared(files[-1], dict(
            type='MaskTokens', arguments=dict(tokens=2), teacher=identity_of(network), on='neck',
            paths=['neck'], channels=[16] * 5), [module.state_dict()] * 5)
    entry = dict(type='mmkd.MasKDLoss', on='neck')
    model = committee(tmp_path, dict(entry, tokens=files), models=models)
    assert [part.losses[0].file.path for part in model.distillation.parts] == files
    losses = model(*batch(model), mode='loss')['loss_neck_maskd']
    assert len(losses) == 5
    assert all(one.isfinite() and one > 0 for one in losses)
    for wrong, found in ((files[0], '1 file;'), (files * 2, '4 files;')):
        with pytest.raises(ValueError, match='`loss_neck_maskd`: the committee has 2 members, each '
                           f'with a first stage of its own, but `tokens` names {found} write '
                           'tokens=.* one file for each member'):
            committee(tmp_path, dict(entry, tokens=wrong), models=models)
    with pytest.raises(ValueError, match='1_prepared.pth` was trained with the teacher'):
        committee(tmp_path, dict(entry, tokens=files[::-1]), models=models)


@pytest.mark.parametrize('tau', [1., 2.])
def test_mean_of_probabilities(tmp_path, tau):
    model = committee(tmp_path, dict(type='mmkd.KDLoss', on='cls', tau=tau), weights=[3, 1])
    inputs, samples = batch(model)
    losses = model(inputs, samples, mode='loss')['loss_cls_kd']
    model.eval()
    with torch.no_grad():
        told = [one.bbox_head(one.extract_feat(inputs))[0] for one in networks(model)]
        own = model.train().bbox_head(model.extract_feat(inputs))[0]
    for loss, s, a, b in zip(losses, own, *told):
        mean = 0.75 * torch.sigmoid(a / tau) + 0.25 * torch.sigmoid(b / tau)
        expected = KDLoss(tau, use_sigmoid=True)(s, tau * torch.logit(mean.double()).float())
        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize('loss', [dict(type='mmkd.DISTLoss', on='cls'),
                                  dict(type='mmkd.MSELoss', on='neck')])
def test_mean_of_losses(tmp_path, loss):
    model = committee(tmp_path, loss, models=(retinanet(width=12), retinanet(channels=24)),
                      average='loss', weights=[0.2, 0.8])
    inputs, samples = batch(model)
    name = 'loss_cls_dist' if loss['on'] == 'cls' else 'loss_neck_mse'
    losses = model(inputs, samples, mode='loss')[name]
    expected = 0.
    own = model.extract_feat(inputs)
    layers = model.distillation.side_modules.of('connectors').get(f'{name}_1')
    for number, (weight, one) in enumerate(zip((0.2, 0.8), networks(model))):
        features = one.extract_feat(inputs)
        if loss['on'] == 'cls':
            sides = model.bbox_head(own)[0], one.bbox_head(features)[0]
            values = DISTLoss(use_sigmoid=True)(*sides)
        else:
            sides = [layer(s) for layer, s in zip(layers, own)] if number else own
            values = MSELoss()(list(sides), list(features))
        expected = expected + weight * sum(values)
    torch.testing.assert_close(sum(losses), expected, rtol=1e-4, atol=1e-6)
    assert (layers is None) is (loss['on'] == 'cls')  # only the wide member needs a connector


def average_warnings(monkeypatch, tmp_path, *entries, **arguments):
    import mmkd.training.distillation as module
    said = []
    monkeypatch.setattr(module, 'warn', said.append)
    committee(tmp_path, *entries, **arguments)
    return [text for text in said if 'averages' in text]


@pytest.mark.parametrize('loss', ['CWDLoss', 'MSELoss'])
def test_averaging_losses_instead_of_probabilities_warns(monkeypatch, tmp_path, loss):
    entry = dict(type=f'mmkd.{loss}', on='cls')
    said, = average_warnings(monkeypatch, tmp_path, entry)
    for part in ('`loss_cls_', loss, 'averages the losses of its members', "`average='loss'`"):
        assert part in said
    assert not average_warnings(monkeypatch, tmp_path, entry, average='loss')


def test_averaging_other_losses_does_not_warn(monkeypatch, tmp_path):
    assert not average_warnings(
        monkeypatch, tmp_path, dict(type='mmkd.KDLoss', on='cls'),
        *(dict(type='mmkd.MSELoss', on=point) for point in ('neck', 'reg')))


def test_classes_of_each_member_are_reordered(tmp_path):
    orders = [('disc', 'square', 'cross'), ('cross', 'disc', 'square')]
    model = committee(tmp_path, dict(type='mmkd.KDLoss', on='cls'), classes=orders)
    first, second = model.terms[0].parts
    assert (first.alignment.columns, second.alignment.columns.order) == (None, [1, 2, 0])
    sum(model(*batch(model), mode='loss')['loss_cls_kd']).backward()


def test_rois_are_the_students_for_every_member(tmp_path):
    model = committee(tmp_path, dict(type='mmkd.DISTLoss', on='cls'), student=two_stage(),
                      models=(two_stage('cascade-rcnn'), two_stage(depth=34)))
    losses, seen, _ = step(model, *batch(model))
    rois = seen['roi_head.bbox_roi_extractor'][-1].args[1]
    inputs, _ = batch(model)
    with torch.no_grad():
        told = [one.roi_head._bbox_forward(*where, one.extract_feat(inputs), rois)['cls_score']
                for one, where in zip(networks(model), ((0, ), ()))]
    mean = (told[0].softmax(1) + told[1].softmax(1)) / 2
    own = seen['roi_head.bbox_head'][-1].output[0]
    torch.testing.assert_close(losses['loss_cls_dist'][0], DISTLoss()(own, mean.log()),
                               rtol=1e-4, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.floats(0.5, 4.))
def test_logits_of_the_mean_give_the_mean(seed, use_sigmoid, tau):
    generator = torch.Generator().manual_seed(seed)
    logits = [10 * torch.randn(4, 5, 3, generator=generator, dtype=torch.float64)
              for _ in range(3)]
    weights = [0.5, 0.3, 0.2]
    act = torch.sigmoid if use_sigmoid else lambda z: z.softmax(1)
    found = act(logits_of_mean(tuple(logits), weights, tau, use_sigmoid) / tau)
    expected = sum(w * act(z / tau) for w, z in zip(weights, logits))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_saturated_logits_stay_finite():
    huge = torch.full((1, 2), 1e4)
    for use_sigmoid in (True, False):
        found = logits_of_mean((huge, -huge), [0.5, 0.5], 1., use_sigmoid)
        assert found.isfinite().all()
        assert logits_of_mean((huge, huge), [1., 0.], 1., use_sigmoid).isfinite().all()


@pytest.mark.parametrize(('arguments', 'message'), [
    (dict(members=[]), '`members` must be a list of teachers'),
    (dict(weights=[1.]), '`weights` must be 2 numbers'),
    (dict(weights=[1., -1.]), '`weights` must be 2 numbers'),
    (dict(weights=[0., 0.]), '`weights` must be 2 numbers'),
    (dict(average='logit'), '`average` must be one of'),
    (dict(members=[dict(type='mmkd.KDLoss')] * 2),
     'member 0 of the committee: KDLoss is not a BaseTeacher'),
    (dict(members=[dict(confg='x')] * 2), 'member 0 of the committee: FrozenTeacher has no argum'),
])
def test_mistakes_are_named(tmp_path, arguments, message):
    teacher = {**dict(type='mmkd.Committee', members=[
        dict(config='a.py', checkpoint=None), dict(config='b.py', checkpoint=None)]), **arguments}
    with pytest.raises((TypeError, ValueError), match=message):
        build(distiller(retinanet(), teacher))
