"""Schedules: the factor of every step, steps without a teacher, and the log."""
import math

import pytest
import torch
from conftest import (
    detector_config,
    distiller,
    retinanet,
    save_teacher,
    segmentor,
    segmentor_config,
    train,
)

from mmkd.hooks.schedule import Schedule

DIST = dict(type='mmkd.DISTLoss', on='cls')


@pytest.mark.parametrize(('entry', 'expected'), [
    (dict(type='constant', end_factor=0.3), [0.3] * 6),
    (dict(type='linear'), [0, 0.2, 0.4, 0.6, 0.8, 1]),
    (dict(type='linear', start_factor=1., end_factor=0., begin=2, end=4), [1, 1, 1, 0, 0, 0]),
    (dict(type='cosine', start_factor=1., end_factor=0.),
     [(1 + math.cos(math.pi * t / 5)) / 2 for t in range(6)]),
    (dict(type='step', milestones=[2, 4], gamma=0.1), [1, 1, 0.1, 0.1, 0.01, 0.01]),
    (dict(type='warmup', end=4), [0.25, 0.5, 0.75, 1, 1, 1]),
    (dict(type='stop', at=3), [1, 1, 1, 0, 0, 0]),
])
def test_factor_over_time(entry, expected):
    schedule = Schedule(**entry)
    assert [schedule.factor(step, 6) for step in range(6)] == pytest.approx(expected)


def run(shapes, work_dir, teacher, schedules, *entries, epochs=4, **changes):
    hook = dict(type='mmkd.DistillScheduleHook', schedules=schedules)
    return detector_config(shapes, distiller(retinanet(), teacher, *entries), str(work_dir), **{
        'train_cfg.max_epochs': epochs, 'train_cfg.val_interval': 10, 'custom_hooks': [hook],
        'train_dataloader.dataset.pipeline.3.prob': 0., 'train_dataloader.batch_size': 4,
        **changes})


def test_teacher_does_not_run_if_all_factors_are_0(shapes, tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', retinanet(width=12))
    from mmkd.networks import BaseTeacher
    looks, look = [], BaseTeacher.observe

    def watched(self, inputs, data_samples, questions):
        looks.append(tuple(inputs.shape))
        return look(self, inputs, data_samples, questions)

    BaseTeacher.observe = watched
    try:
        _, losses = train(run(shapes, tmp_path / 'run', teacher, dict(
            loss_cls_dist=[dict(type='stop', at=2), dict(type='constant', end_factor=0.5)])))
    finally:
        BaseTeacher.observe = look
    assert [one['factor_cls_dist'] for one in losses] == [0.5, 0.5, 0., 0.]
    assert [one['loss_cls_dist'] > 0 for one in losses] == [True, True, False, False]
    # smaller batches belong to the dry run
    assert [shape[0] for shape in looks if shape[0] == 4] == [4, 4]


@pytest.mark.slow
def test_factor_scales_the_loss_and_is_resumed(shapes, tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', retinanet(width=12))
    schedules = {'loss_*': dict(type='linear', start_factor=0.25, end_factor=1., end=2)}
    _, whole = train(run(shapes, tmp_path / 'whole', teacher, schedules, DIST, epochs=2))
    _, plain = train(detector_config(shapes, distiller(retinanet(), teacher, DIST),
                                     str(tmp_path / 'plain'), **{
        'train_dataloader.dataset.pipeline.3.prob': 0., 'train_dataloader.batch_size': 4}))
    assert whole[0]['loss_cls_dist'] == pytest.approx(0.25 * plain[0]['loss_cls_dist'])
    train(run(shapes, tmp_path / 'parts', teacher, schedules, DIST, epochs=1))
    _, rest = train(run(shapes, tmp_path / 'parts', teacher, schedules, DIST, epochs=2,
                        resume=True))
    assert rest == whole[1:]


def test_connectors_do_not_train_while_the_factor_is_0(shapes, tmp_path):
    """With a factor of 0 connectors have no gradient. Later they train again."""
    teacher = save_teacher(tmp_path / 't.pth', retinanet(channels=24))
    entry = dict(type='mmkd.MSELoss', on='neck')
    runner, losses = train(run(shapes, tmp_path / 'run', teacher, dict(
        loss_neck_mse=dict(type='linear', start_factor=0., end_factor=1., begin=1, end=3)), entry))
    assert [one['loss_neck_mse'] > 0 for one in losses] == [False, False, True, True]
    assert all(p.isfinite().all() for p in runner.model.distillation.trained_beside)


@pytest.mark.parametrize(('schedules', 'message'), [
    ({'loss_cls_kd': dict(type='stop', at=1)}, 'for `loss_cls_kd`, but the terms are `los'),
    ({}, '`schedules` must be a dict'),
    ({'loss_cls_dist': dict(type='exponential')}, "type 'exponential'; the types are"),
    ({'loss_cls_dist': dict(type='stop')}, 'needs `at`'),
    ({'loss_cls_dist': dict(type='step')}, 'needs `milestones`'),
    ({'loss_cls_dist': dict(type='warmup')}, 'needs `end`'),
    ({'loss_cls_dist': dict(type='linear', begin=3, end=2)}, 'must end after it begins'),
    ({'loss_cls_dist': dict(type='linear', stop=2)}, 'has no argument `stop`; it has `start_f'),
    ({'loss_cls_dist': 0.5}, 'must be a dict with a `type`'),
    ({'loss_cls_dist': []}, 'must be a dict with a `type`'),
    ({'loss_cls_dist': dict(type='warmup', begin=1, end=2)}, 'has no argument `begin`'),
    ({'loss_cls_dist': dict(type='stop', at='1')}, '`at` must be a number'),
    ({'loss_cls_dist': dict(type='constant', end_factor=-1.)}, '`end_factor` .* 0 or more'),
])
def test_mistakes_are_named(shapes, tmp_path, schedules, message):
    teacher = save_teacher(tmp_path / 't.pth', retinanet())
    with pytest.raises((TypeError, ValueError), match=message):
        train(run(shapes, tmp_path / 'run', teacher, schedules, DIST))


def test_epochs_where_there_are_none_are_refused(streets, tmp_path):
    teacher = dict(type='mmkd.MeanTeacher')
    hook = dict(type='mmkd.DistillScheduleHook', schedules={'loss_*': dict(type='stop', at=1)})
    with pytest.raises(ValueError, match='is by iterations; write `by_epoch=False`'):
        train(segmentor_config(streets, distiller(segmentor(), teacher, DIST),
                               str(tmp_path / 'run'), custom_hooks=[hook]))


def test_needs_a_distillation(shapes, tmp_path):
    hook = dict(type='mmkd.DistillScheduleHook', schedules={'loss_*': dict(type='stop', at=1)})
    with pytest.raises(ValueError, match='the run has no distillation'):
        train(detector_config(shapes, retinanet(), str(tmp_path / 'run'), custom_hooks=[hook]))


def test_works_with_the_hook(shapes, tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', retinanet())
    hooks = [dict(type='mmkd.DistillScheduleHook', schedules={
        'loss_*': dict(type='stop', at=1, by_epoch=False)}),
        dict(type='mmkd.DistillHook', teacher=teacher, distill=[DIST])]
    runner, losses = train(detector_config(shapes, retinanet(), str(tmp_path / 'run'),
                                           custom_hooks=hooks))
    factors = [one for one in losses if 'factor_cls_dist' in one]
    assert factors == [] or torch.tensor([one['factor_cls_dist'] for one in factors]).sum() == 1
    assert runner.message_hub.get_scalar('train/factor_cls_dist').data[0].tolist() == [1., 0.]


def test_schedules_of_one_term_are_multiplied(shapes, tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', retinanet())
    _, losses = train(run(shapes, tmp_path / 'run', teacher, {
        'loss_cls_dist': dict(type='constant', end_factor=0.5),
        'loss_*': dict(type='stop', at=1)}, DIST, epochs=2))
    assert [one['factor_cls_dist'] for one in losses] == [0.5, 0.]
    hook = dict(type='mmkd.DistillScheduleHook', schedules={'loss_*': dict(type='stop', at=1)})
    with pytest.raises(ValueError, match='two mmkd.DistillScheduleHook'):
        train(detector_config(shapes, distiller(retinanet(), teacher, DIST),
                              str(tmp_path / 'two'), custom_hooks=[hook, hook]))


def test_negative_weight_of_labels_is_refused(shapes, tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', retinanet())
    with pytest.raises(ValueError, match='the loss on labels would have a negative weight'):
        train(run(shapes, tmp_path / 'run', teacher, {
            'loss_*': dict(type='linear', start_factor=0.5, end_factor=2.)},
            dict(type='mmkd.KDLoss', on='cls', alpha=0.8)))


def test_default_may_be_written_out():
    from mmkd.hooks.schedule import Schedule
    assert Schedule('linear', end=None).end is None
    with pytest.raises(ValueError, match="'warmup' needs `end`"):
        Schedule('warmup', end=None)
