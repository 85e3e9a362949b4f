"""Distillation with MMEngine's FlexibleRunner in one process; see test_processes.py for two."""
import loops  # noqa: F401 (its losses)
import pytest
import torch
from conftest import build, detector_config, distiller, retinanet, save_teacher, saved_at
from mmengine._strategy import SingleDeviceStrategy
from mmengine.runner import FlexibleRunner, Runner

from mmkd.training.strategies import check_strategy

ENTRIES = [dict(type='mmkd.DISTLoss', on='cls'), dict(type='mmkd.MSELoss', on='neck')]


@pytest.fixture
def teacher(tmp_path):
    return save_teacher(tmp_path / 'teacher.pth', retinanet(channels=24))


def flexible(data, model, work_dir, **changes):
    return detector_config(data, model, work_dir, **{
        'env_cfg': dict(dist_cfg=dict(backend='gloo')), 'optim_wrapper.optimizer.momentum': 0.9,
        'train_dataloader.dataset.pipeline.3.prob': 0., **changes})


@pytest.mark.slow
def test_trains_saves_and_resumes_as_the_runner_does(shapes, tmp_path, teacher):
    """With a connector, whose momentum must be resumed."""
    def config(name, epochs, **changes):
        return flexible(shapes, distiller(retinanet(), teacher, *ENTRIES), str(tmp_path / name),
                        **{'train_cfg.max_epochs': epochs, 'train_cfg.val_interval': 9, **changes})

    Runner.from_cfg(config('plain', 2)).train()
    FlexibleRunner.from_cfg(config('whole', 2)).train()
    FlexibleRunner.from_cfg(config('parts', 1)).train()
    FlexibleRunner.from_cfg(config('parts', 2, resume=True)).train()
    plain, whole, parts = (saved_at(tmp_path / name / 'epoch_2.pth')
                           for name in ('plain', 'whole', 'parts'))
    for other in (whole, parts):
        for key, value in plain['state_dict'].items():
            torch.testing.assert_close(other['state_dict'][key], value)
        for key, value in plain['mmkd']['connectors']['loss_neck_mse'].items():
            torch.testing.assert_close(other['mmkd']['connectors']['loss_neck_mse'][key], value)
        assert len(other['optimizer']['state']) == len(plain['optimizer']['state'])


def test_scaled_learning_rates_are_the_connectors_too(shapes, tmp_path, teacher):
    config = flexible(shapes, distiller(retinanet(), teacher, *ENTRIES), str(tmp_path / 'run'),
                      auto_scale_lr=dict(enable=True, base_batch_size=8))
    runner = FlexibleRunner.from_cfg(config)
    runner.train()
    group, = runner.optim_wrapper.param_groups
    assert group['lr'] == pytest.approx(0.001 * 2 / 8)
    inside = {id(one) for one in group['params']}
    assert all(id(one) in inside for one in runner.model.distillation.trained_beside)


def test_a_test_needs_no_teacher(shapes, tmp_path):
    gone = dict(config='no/such/config.py', checkpoint='no/such/file.pth')
    model = distiller(retinanet(), gone)
    runner = FlexibleRunner.from_cfg(flexible(shapes, model, str(tmp_path / 'run')))
    assert 'coco/bbox_mAP' in runner.test()
    with pytest.raises(FileNotFoundError, match='no/such/config.py'):
        FlexibleRunner.from_cfg(flexible(shapes, model, str(tmp_path / 'other'))).train()


def strategy_called(name):
    """Return a strategy with this name, without the package that it would need."""
    return type('OfATest', (type(name, (SingleDeviceStrategy, ), {}), ), {})


MEAN = dict(type='mmkd.MeanTeacher')
REFUSED = {
    'connector': ('FSDPStrategy', None, ENTRIES, 'loss_neck_mse needs connectors, but FSDPStrat'),
    'zero connector': ('DeepSpeedStrategy', None, ENTRIES, 'connectors, but DeepSpeedStrategy'),
    'memory': ('FSDPStrategy', None, [dict(type='mmkd.RowsOfAllLoss', on='neck')],
               'loss_neck_rowsofall needs layers or memory of its loss, but FSDPStrategy'),
    'average': ('FSDPStrategy', MEAN, ENTRIES[:1],
                '`teacher` is a MeanTeacher, which is trained with the student'),
    'untried': ('ColossalAIStrategy', None, ENTRIES[:1], 'not been tested with ColossalAIStrategy'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_modules_that_sharding_cannot_train_are_refused(shapes, tmp_path, teacher, case):
    name, other, entries, message = REFUSED[case]
    model = distiller(retinanet(), other or teacher, *entries)
    config = flexible(shapes, model, str(tmp_path / 'run'), strategy=dict(
        type=strategy_called(name)))
    with pytest.raises(ValueError, match=f'{message}.*DDPStrategy'):
        FlexibleRunner.from_cfg(config).train()


def test_hook_is_refused_for_a_sharded_student(shapes, tmp_path, teacher):
    config = flexible(
        shapes, retinanet(), str(tmp_path / 'run'),
        custom_hooks=[dict(type='mmkd.DistillHook', teacher=teacher, distill=ENTRIES[:1])],
        strategy=dict(type=strategy_called('DeepSpeedStrategy')))
    with pytest.raises(ValueError, match='use the model `mmkd.Distiller`'):
        FlexibleRunner.from_cfg(config).train()
    config.strategy = dict(type=SingleDeviceStrategy)
    config.work_dir, config.experiment_name = str(tmp_path / 'other'), 'other'
    FlexibleRunner.from_cfg(config).train()


def test_wrapper_that_shards_before_the_teacher_is_refused(teacher):
    """The plain Runner wraps the model before any hook runs."""
    from mmengine.model import MMFullyShardedDataParallel

    class Wrapped(MMFullyShardedDataParallel):
        def __init__(self):
            torch.nn.Module.__init__(self)

    class OfATest:
        model = Wrapped()

    with pytest.raises(ValueError, match='Wrapped has split the student before its teacher'):
        check_strategy(OfATest(), None)


def test_teacher_moves_with_a_student_moved_by_fsdp(teacher):
    """FSDP moves a student in this way."""
    model = build(distiller(retinanet(), teacher))
    model.init_weights()
    for module in model.modules():
        for name, one in module._parameters.items():
            module._parameters[name] = one if one is None else torch.nn.Parameter(one.to('meta'))
    assert next(model.teacher.model.parameters()).device.type == 'cpu'
    for network in model.distillation.networks.values():
        network.begin = lambda: None
    model.distillation.begin()
    assert next(model.teacher.model.parameters()).device.type == 'meta'
