"""MeanTeacher: the average, its warm-up, and its use with an EMAHook."""
import copy

import pytest
import torch
from conftest import (
    build,
    detector_config,
    distiller,
    retinanet,
    save_teacher,
    saved_at,
    train,
)
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from mmkd import MeanTeacher

KD = dict(type='mmkd.KDLoss', on='cls')


@pytest.mark.parametrize(('momentum', 'warmup'), [(0.1, 1), (0.01, 4)])
def test_average_is_that_of_the_formula(momentum, warmup):
    torch.manual_seed(0)
    student = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    teacher = MeanTeacher(momentum, warmup)
    teacher.prepare(student)
    for parameter in student.parameters():  # other weights than at the time of `prepare`
        parameter.data.normal_()
    teacher.begin()
    expected = {name: value.double() for name, value in student.state_dict().items()}
    for step in range(5):
        for value in student.state_dict().values():
            value.copy_(torch.randn(value.shape) * 3)
        teacher.after_iter(step + 1)
        share = max(momentum, warmup / (warmup + step))
        for name, value in student.state_dict().items():
            if value.is_floating_point():
                expected[name] = (1 - share) * expected[name] + share * value.double()
    for name, value in teacher.model.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)
    assert not any(p.requires_grad for p in teacher.model.parameters())
    assert not teacher.model.training


def test_averaging_continues_after_a_move():
    student = torch.nn.Linear(2, 3)
    teacher = MeanTeacher(0.5, 1)
    teacher.prepare(student)
    student.double()
    teacher._apply(lambda value: value.double())
    teacher.begin()
    torch.nn.init.ones_(student.weight)
    teacher.after_iter(1)
    assert teacher.model.weight.dtype is torch.float64
    assert torch.equal(teacher.model.weight, student.weight)


@pytest.mark.parametrize('arguments', [
    dict(momentum=0.), dict(momentum=1.), dict(momentum='0.1'), dict(warmup=0), dict(warmup=1.5)])
def test_mistakes_are_named(arguments):
    with pytest.raises((ValueError, TypeError), match='`(momentum|warmup)`'):
        MeanTeacher(**arguments)


def run(shapes, work_dir, teacher, hooks=(), **changes):
    return detector_config(shapes, distiller(retinanet(), teacher, KD), str(work_dir), **{
        'train_cfg.max_epochs': 2, 'train_dataloader.dataset.pipeline.3.prob': 0.,
        'custom_hooks': list(hooks), **changes})


def test_follows_the_student_in_a_run(shapes, tmp_path):
    seen = []

    @HOOKS.register_module(force=True)
    class KeepWeights(Hook):
        priority = 'LOWEST'

        def before_train(self, runner):
            self.after_train_iter(runner)

        def after_train_iter(self, runner, *args, **kwargs):
            seen.append(copy.deepcopy((runner.model.state_dict(),
                                       runner.model.teacher.model.state_dict())))

    train(run(shapes, tmp_path / 'run', dict(
        type='mmkd.MeanTeacher', momentum=0.25, warmup=1), [dict(type='KeepWeights')]))
    name = 'bbox_head.retina_cls.weight'
    average = seen[0][0][name].double()
    for step, (student, teacher) in enumerate(seen[1:]):
        share = max(0.25, 1 / (1 + step))
        average = (1 - share) * average + share * student[name].double()
        torch.testing.assert_close(teacher[name].double(), average, rtol=1e-5, atol=1e-7)


def bernoulli_divergence(student, teacher):
    """KD of sigmoid heads as documented: mean over positions, sum over levels."""
    total = 0.
    for one, other in zip(student, teacher):
        p, q = one.double().sigmoid(), other.double().sigmoid()
        terms = q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()
        total += terms.sum(1).mean().item()
    return total


def keep_terms(momentum):
    """Return a hook that computes the term of every step with its own average, and its results."""
    found = []

    @HOOKS.register_module(force=True)
    class WorkOut(Hook):
        priority = 'LOWEST'

        def before_train(self, runner):
            self.average = copy.deepcopy(runner.model.state_dict())
            self.is_begun = runner.iter > 0

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            said = []
            for weights, mode in ((runner.model.state_dict(), True), (self.average, False)):
                network = build(retinanet()).train(mode)
                network.load_state_dict(weights)
                data = network.data_preprocessor(copy.deepcopy(data_batch), True)
                with torch.no_grad():
                    said.append(network(data['inputs'], data['data_samples'], mode='tensor')[0])
            found.append(bernoulli_divergence(*said))

        def after_train_iter(self, runner, *args, **kwargs):
            parameters = {name for name, _ in runner.model.named_parameters()}
            for name, value in runner.model.state_dict().items():
                # EMAHook starts with a copy of the student
                if name in parameters and self.is_begun:
                    self.average[name].lerp_(value, momentum)
                else:
                    self.average[name].copy_(value)
            self.is_begun = True

    return found, dict(type='WorkOut')


@pytest.mark.parametrize('start', ['scratch', 'load_from'])
@pytest.mark.parametrize('place', ['custom_hooks', 'hooks'])
def test_every_step_is_taught_by_the_average_of_an_ema_hook(shapes, tmp_path, place, start):
    ema = dict(type='EMAHook', momentum=0.3)
    expected, worked_out = keep_terms(0.3)
    config = run(shapes, tmp_path / 'run', dict(type='mmkd.MeanTeacher'), [worked_out], **{
        'optim_wrapper.optimizer.lr': 0.02})
    if place == 'hooks':
        config.model.hooks = [ema]
    else:
        config.custom_hooks.append(ema)
    if start == 'load_from':
        config.load_from = save_teacher(tmp_path / 'start.pth', retinanet())['checkpoint']
    runner, losses = train(config)
    assert len(losses) == 4
    for step, value in zip(losses, expected):
        assert step['loss_cls_kd'] == pytest.approx(value, rel=1e-3, abs=1e-9)
    # The teacher uses the hook's average and has none of its own.
    average = next(hook for hook in runner.hooks if isinstance(hook, EMAHook)).ema_model
    assert runner.model.teacher.average is None
    own = dict(average.module.named_parameters())
    for name, value in runner.model.teacher.model.named_parameters():
        assert value is own[name]


def test_member_of_a_committee_begins_as_the_student_too(shapes, tmp_path):
    changes = {'custom_hooks': [dict(type='EMAHook', momentum=0.3)],
               'optim_wrapper.optimizer.lr': 0.02}
    alone = train(run(shapes, tmp_path / 'alone', dict(type='mmkd.MeanTeacher'), **changes))[1]
    found = train(run(shapes, tmp_path / 'committee', dict(
        type='mmkd.Committee', members=[dict(type='mmkd.MeanTeacher')], average='loss'),
        **changes))[1]
    assert [one['loss_cls_kd'] for one in found] == pytest.approx(
        [one['loss_cls_kd'] for one in alone], rel=1e-4)
    assert found[0]['loss_cls_kd'] < 1  # with uninitialised weights the loss would be over 100


@pytest.mark.slow
@pytest.mark.parametrize('begin', [0, 3])
def test_average_of_an_ema_hook_is_resumed(shapes, tmp_path, begin):
    """Also from a checkpoint before the averaging begins."""
    ema = dict(type='EMAHook', momentum=0.3, begin_epoch=begin)

    def losses_of(name, **more):
        config = run(shapes, tmp_path / name, dict(type='mmkd.MeanTeacher'), [ema], **{
            'train_cfg.max_epochs': 4, 'train_dataloader.batch_size': 4,
            'optim_wrapper.optimizer.lr': 0.02}, **more)
        return [one['loss_cls_kd'] for one in train(config)[1]]

    whole = losses_of('whole')
    saved = str(tmp_path / 'whole' / 'epoch_2.pth')
    assert losses_of('again', load_from=saved, resume=True) == pytest.approx(whole[2:], rel=1e-5)


@pytest.mark.slow
def test_with_a_momentum_of_its_own_there_are_two_averages(shapes, tmp_path):
    hook = dict(type='EMAHook', momentum=0.5)
    runner, _ = train(run(shapes, tmp_path / 'two', dict(
        type='mmkd.MeanTeacher', momentum=0.9, warmup=1), [hook]))
    plain, _ = train(run(shapes, tmp_path / 'one', dict(
        type='mmkd.MeanTeacher', momentum=0.9, warmup=1)))
    for one, other in zip(runner.model.teacher.model.parameters(),
                          plain.model.teacher.model.parameters()):
        assert torch.equal(one, other)


@pytest.mark.slow
def test_teaches_with_the_distill_hook_and_is_resumed(shapes, tmp_path):
    hook = dict(type='mmkd.DistillHook', distill=[KD],
                teacher=dict(type='mmkd.MeanTeacher', momentum=0.2, warmup=1))
    changes = {'train_dataloader.dataset.pipeline.3.prob': 0., 'custom_hooks': [hook],
               'train_dataloader.batch_size': 4}

    def losses_of(name, epochs, **more):
        runner = Runner.from_cfg(detector_config(
            shapes, retinanet(), str(tmp_path / name), **changes, **more,
            **{'train_cfg.max_epochs': epochs}))
        runner.train()
        return saved_at(tmp_path / name / f'epoch_{epochs}.pth')

    whole = losses_of('whole', 3)
    losses_of('parts', 2)
    parts = losses_of('parts', 3, resume=True)
    for name, value in whole['state_dict'].items():
        assert torch.equal(value, parts['state_dict'][name])
    for name, value in whole['mmkd']['networks']['teacher'].items():
        assert torch.equal(value, parts['mmkd']['networks']['teacher'][name])
    build(retinanet()).load_state_dict(whole['state_dict'], strict=True)


def test_follows_a_training_loop_of_ones_own():
    from mmdet.testing import demo_mm_inputs
    from mmengine.optim import OptimWrapper
    torch.manual_seed(0)
    model = build(distiller(retinanet(), dict(type='mmkd.MeanTeacher', momentum=0.5, warmup=1), KD))
    model.init_weights()
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01))
    before = copy.deepcopy(model.teacher.model.state_dict())
    for _ in range(2):
        model.train_step(demo_mm_inputs(2, (3, 64, 96), num_items=[2, 1], num_classes=3), wrapper)
    name = 'bbox_head.retina_cls.bias'
    assert not torch.equal(before[name], model.teacher.model.state_dict()[name])
    model = build(distiller(retinanet(), dict(type='mmkd.EarlierSelf'), KD))
    with pytest.raises(ValueError, match='known only under a Runner'):
        model.train_step(demo_mm_inputs(2, (3, 64, 96), num_classes=3), wrapper)
