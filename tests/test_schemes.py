"""Every scheme trains in a Runner, resumes bit for bit, and saves plain student weights."""
import copy
import importlib
import os

import pytest
import torch
from conftest import (
    build,
    detector_config,
    distiller,
    retinanet,
    save_teacher,
    saved_at,
    segmentor,
    segmentor_config,
    train,
)
from support.rows import slow_but

KD = dict(type='mmkd.KDLoss', on='cls')
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def branch_of_detector():
    return dict(config=dict(model=retinanet(), default_scope='mmdet'),
                shared=['backbone', 'neck'])


def plain_segmentor(**changes):
    """A segmentor without dropout: MMEngine does not restore the random state on resume."""
    model = segmentor(dropout_ratio=0., **changes)
    model['auxiliary_head']['dropout_ratio'] = 0.
    return model


def branch_of_segmentor(index=1):
    model = plain_segmentor()
    model['decode_head'] = dict(
        type='FCNHead', in_channels=8 * 2**index, in_index=index, channels=8, num_convs=1,
        num_classes=19, norm_cfg=dict(type='BN'), align_corners=False, dropout_ratio=0.,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=0.7))
    model['auxiliary_head'] = None
    return dict(config=dict(model=model, default_scope='mmseg'), shared=['backbone'])


def from_student(on, network):
    return dict(KD, on=dict(student=f'{network}:{on}', teacher=f'student:{on}'))


SCHEMES = {
    'mean teacher': lambda plain, branch: distiller(
        plain(), dict(type='mmkd.MeanTeacher', momentum=0.2, warmup=1), KD),
    'earlier self': lambda plain, branch: distiller(
        plain(), dict(type='mmkd.EarlierSelf', every=1), dict(KD, alpha=0.8)),
    'mutual': lambda plain, branch: dict(
        type='mmkd.Distiller', student=plain(), companions=dict(other=dict(config=dict(
            model=plain(width=12)))), distill=[dict(KD, between=['student', 'other'])]),
    'booster': lambda plain, branch: dict(
        type='mmkd.Distiller', student=plain(), companions=dict(booster=dict(
            config=dict(model=plain(depth=34)), shared=['backbone.layer1.1'])),
        distill=[dict(KD, on=dict(student='cls', teacher='booster:cls'))]),
    'own teacher': lambda plain, branch: dict(
        type='mmkd.Distiller', student=plain(), companions=dict(shallow=branch()),
        distill=[from_student('cls', 'shallow')]),
}
MODELS = dict(mmdet=(retinanet, branch_of_detector), mmseg=(plain_segmentor, branch_of_segmentor))


def run(package, data, model, work_dir, iterations, **changes):
    """A run without random augmentation that saves a checkpoint after every iteration."""
    if package == 'mmseg':
        config = segmentor_config(data, model, str(work_dir), **{
            'train_cfg.max_iters': iterations, 'train_cfg.val_interval': 100,
            'train_dataloader.dataset.pipeline.3.prob': 0.,
            'optim_wrapper.optimizer.momentum': 0.9, 'default_hooks.checkpoint.interval': 1,
            **changes})
        config.train_dataloader.dataset.pipeline[2] = dict(type='Resize', scale=(64, 64))
        return config
    return detector_config(data, model, str(work_dir), **{
        'train_cfg.max_epochs': iterations, 'train_cfg.val_interval': 100,
        'train_dataloader.batch_size': 4, 'train_dataloader.dataset.pipeline.3.prob': 0.,
        'optim_wrapper.optimizer.momentum': 0.9, **changes})


@pytest.mark.parametrize(('scheme', 'package'), slow_but(
    ('mutual-mmdet', 'mean teacher-mmseg'),
    ((f'{scheme}-{package}', (scheme, package)) for scheme in SCHEMES for package in MODELS)))
def test_resumed_run_is_the_uninterrupted_one(package, scheme, shapes, streets, tmp_path):
    data = dict(mmdet=shapes, mmseg=streets)[package]
    model = SCHEMES[scheme](*MODELS[package])
    step = 'epoch' if package == 'mmdet' else 'iter'
    _, losses = train(run(package, data, copy.deepcopy(model), tmp_path / 'whole', 3))
    assert all(torch.isfinite(torch.tensor(list(one.values()))).all() for one in losses)
    train(run(package, data, copy.deepcopy(model), tmp_path / 'parts', 2))
    _, rest = train(run(package, data, copy.deepcopy(model), tmp_path / 'parts', 3,
                            resume=True))
    assert rest == losses[2:]
    ends = [saved_at(tmp_path / name / f'{step}_3.pth')
            for name in ('whole', 'parts')]
    assert equal(ends[0]['state_dict'], ends[1]['state_dict'])
    assert equal(ends[0].get('mmkd', {}), ends[1].get('mmkd', {}))
    build(MODELS[package][0](), package).load_state_dict(ends[0]['state_dict'], strict=True)


def equal(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize('package', MODELS)
def test_two_schemes_and_a_schedule_at_once(package, shapes, streets, tmp_path):
    """A mean teacher teaches the student by DIST, and the student teaches its shallow branch."""
    data = dict(mmdet=shapes, mmseg=streets)[package]
    plain, branch = MODELS[package]
    model = dict(
        type='mmkd.Distiller', student=plain(), companions=dict(shallow=branch()),
        teacher=dict(type='mmkd.MeanTeacher'),
        distill=[dict(type='mmkd.DISTLoss', on='cls'), from_student('cls', 'shallow'),
                 dict(type='mmkd.DISTLoss', on=dict(student='shallow:cls', teacher='cls'))])
    hook = dict(type='mmkd.DistillScheduleHook', schedules={
        'loss_cls_dist': dict(type='linear', start_factor=1., end_factor=0.,
                              by_epoch=package == 'mmdet')})
    _, losses = train(run(package, data, model, tmp_path / 'run', 2, custom_hooks=[hook]))
    assert [one['factor_cls_dist'] for one in losses] == [1., 0.]
    assert losses[1]['loss_cls_dist'] == 0.
    for name in ('loss_shallow_cls_kd_from_student', 'loss_shallow_cls_dist'):
        assert losses[1][name] > 0


def test_a_teacher_and_partners_of_it(shapes, tmp_path):
    """Student and partner learn from each other and from one teacher, which runs once per step."""
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet(width=12))
    model = dict(
        type='mmkd.Distiller', student=retinanet(), teacher=teacher,
        companions=dict(other=dict(config=dict(model=retinanet(depth=34)))),
        distill=[dict(type='mmkd.DISTLoss', on='cls'),
                 dict(type='mmkd.DISTLoss', on=dict(student='other:cls', teacher='cls')),
                 dict(KD, between=['student', 'other'])])
    _, losses = train(run('mmdet', shapes, model, tmp_path / 'run', 1))
    assert {'loss_cls_dist', 'loss_other_cls_dist', 'loss_cls_kd_from_other', 'other.loss_cls',
            'loss_other_cls_kd_from_student'} <= losses[0].keys()


@pytest.mark.slow
def test_scheme_of_the_examples_is_the_average(shapes, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(os.path.join(ROOT, 'examples'))
    importlib.import_module('epoch_mean_teacher')
    model = distiller(retinanet(), dict(type='mmkd.AverageOfEpochs'), KD)
    runner, losses = train(run('mmdet', shapes, copy.deepcopy(model), tmp_path / 'whole', 3))
    assert [one['loss_cls_kd'] > 0 for one in losses] == [False, True, True]
    ends = [saved_at(tmp_path / 'whole' / f'epoch_{i}.pth')['state_dict']
            for i in (1, 2, 3)]
    for name, value in runner.model.teacher.model.state_dict().items():
        if value.is_floating_point():
            expected = sum(end[name].double() for end in ends) / 3
            torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)
    train(run('mmdet', shapes, copy.deepcopy(model), tmp_path / 'parts', 2))
    _, rest = train(run('mmdet', shapes, copy.deepcopy(model), tmp_path / 'parts', 3, resume=True))
    assert rest == losses[2:]
