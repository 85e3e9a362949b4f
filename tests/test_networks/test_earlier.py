"""PS-KD: the earlier student that teaches, and its weight in each epoch."""
import pytest
import torch
from conftest import detector_config, distiller, retinanet, segmentor, segmentor_config, train
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from mmkd import EarlierSelf

KD = dict(type='mmkd.KDLoss', on='cls', alpha=0.8)
WEIGHT = 'bbox_head.retina_cls.weight'


@HOOKS.register_module(force=True)
class KeepSelves(Hook):
    """Stores a weight of the student after each epoch and of the teacher after each iteration."""
    priority = 'LOWEST'

    def before_train(self, runner):
        self.students, self.teachers = [], []

    def after_train_iter(self, runner, *args, **kwargs):
        self.teachers.append(runner.model.teacher.model.state_dict()[WEIGHT].clone())

    def after_train_epoch(self, runner):
        self.students.append(runner.model.state_dict()[WEIGHT].clone())


def run(shapes, work_dir, teacher, hooks=(), epochs=3):
    schedule = dict(type='mmkd.DistillScheduleHook', schedules=dict(
        loss_cls_kd=dict(type='linear', start_factor=1 / epochs, end_factor=1.)))
    return detector_config(shapes, distiller(retinanet(), teacher, KD), str(work_dir), **{
        'train_cfg.max_epochs': epochs, 'custom_hooks': [schedule, *hooks]})


def test_teacher_is_the_student_of_the_last_epochs_end(shapes, tmp_path):
    runner, losses = train(run(shapes, tmp_path / 'run', dict(type='mmkd.EarlierSelf'),
                               [dict(type='KeepSelves')]))
    keeper = next(hook for hook in runner.hooks if isinstance(hook, KeepSelves))
    for epoch in (1, 2):
        for step in (2 * epoch, 2 * epoch + 1):
            assert torch.equal(keeper.teachers[step], keeper.students[epoch - 1])
    # alpha_t = 0.8 * t / T, and no earlier student in the first epoch
    assert [one['factor_cls_kd'] for one in losses] == pytest.approx(
        [1 / 3, 1 / 3, 2 / 3, 2 / 3, 1, 1])
    assert [one['loss_cls_kd'] > 0 for one in losses] == [False, False] + [True] * 4


def test_hard_targets_have_the_remaining_weight(shapes, tmp_path):
    """The classification loss is (1 - alpha) times that of the plain run."""
    _, plain = train(detector_config(shapes, retinanet(), str(tmp_path / 'plain'), **{
        'train_cfg.max_epochs': 2}))
    _, losses = train(run(shapes, tmp_path / 'run', dict(type='mmkd.EarlierSelf'), epochs=2))
    for step in range(2):  # no earlier student yet, so labels have their full weight
        assert losses[step]['loss_cls'] == plain[step]['loss_cls']
    assert losses[2]['loss_cls'] == pytest.approx((1 - 0.8) * plain[2]['loss_cls'], rel=1e-5)
    assert losses[2]['loss_bbox'] == plain[2]['loss_bbox']


def test_by_iterations_where_there_are_no_epochs(streets, tmp_path):
    model = distiller(segmentor(), dict(type='mmkd.EarlierSelf', every=2), KD)
    _, losses = train(segmentor_config(streets, model, str(tmp_path / 'run'), **{
        'train_cfg.max_iters': 3}))
    assert [one['loss_cls_kd'] > 0 for one in losses] == [False, False, True]
    model = distiller(segmentor(), dict(type='mmkd.EarlierSelf'), KD)
    with pytest.raises(ValueError, match='changes after every epoch, but training is by iter'):
        train(segmentor_config(streets, model, str(tmp_path / 'other')))


@pytest.mark.parametrize('every', ['iter', 0, 1.5, True, None])
def test_mistakes_are_named(every):
    with pytest.raises(ValueError, match=r"`every` must be 'epoch' or a number of iterations"):
        EarlierSelf(every)
