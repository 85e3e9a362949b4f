"""A term that is not finite is left out, counted and diagnosed; terms without effect are reported.
"""
import pytest
import torch
from conftest import (
    build,
    detector_config,
    distiller,
    record_losses,
    retinanet,
    save_teacher,
    train,
)
from mmengine.runner import Runner
from torch import nn

from mmkd.registry import MODELS
from mmkd.training import health
from mmkd.training.health import Health, Sides

DIST = dict(type='mmkd.DISTLoss', on='cls')


@MODELS.register_module()
class SpoiltTeacher(MODELS.get('mmkd.FrozenTeacher')):
    """Returns NaN in the steps listed in ``spoilt``."""

    def __init__(self, *args, spoilt=(), **kwargs):
        super().__init__(*args, **kwargs)
        self.spoilt, self.steps = spoilt, 0

    def observe(self, inputs, data_samples, questions):
        told = super().observe(inputs, data_samples, questions)
        if data_samples is not None:
            self.steps += 1
            for answers in told.values():
                for answer in answers.values():
                    if self.steps in self.spoilt:
                        answer.levels[1][0, 0] = float('nan')
        return told


@pytest.fixture
def teacher(tmp_path):
    return dict(save_teacher(tmp_path / 'teacher.pth', retinanet(width=12)),
                type='mmkd.SpoiltTeacher')


def config_of(shapes, work_dir, teacher, epochs=2, **model):
    config = detector_config(
        shapes, dict(distiller(retinanet(), teacher, DIST), **model), str(work_dir))
    config.train_cfg.update(max_epochs=epochs, val_interval=100)
    return config


def log_of(folder):
    path, = folder.rglob('*.log')
    return path.read_text()


def test_nan_step_is_left_out_and_training_continues(shapes, tmp_path, teacher):
    runner, losses = train(config_of(shapes, tmp_path / 'run', dict(teacher, spoilt=[2, 4])))
    assert [one['loss_cls_dist'] == 0 for one in losses] == [False, True, False, True]
    assert all(p.isfinite().all() for p in runner.model.parameters())
    assert runner.model.distillation.health.left_out == dict(loss_cls_dist=2)
    text = log_of(tmp_path / 'run')
    assert '`loss_cls_dist` is infinite or NaN and was left out of this step' in text
    assert 'level 1: the student from' in text
    assert 'the outputs of the teacher are not finite' in text


def test_several_in_a_row_stop_the_run_with_a_diagnosis(shapes, tmp_path, teacher):
    config = config_of(shapes, tmp_path / 'run', dict(teacher, spoilt=[2, 3, 4]),
                       nonfinite_limit=3)
    runner = Runner.from_cfg(config)
    losses = record_losses(runner)
    with pytest.raises(FloatingPointError, match=r'in 3 steps in a row: level 1: the student from'
                       r'.*the teacher from .* not finite; the outputs of the teacher'):
        runner.train()
    assert len(losses) == 3
    assert all(p.isfinite().all() for p in runner.model.parameters())


def test_hook_that_is_interrupted_leaves_the_model_as_it_was(shapes, tmp_path, teacher):
    config = detector_config(shapes, retinanet(), str(tmp_path / 'run'), custom_hooks=[
        dict(type='mmkd.DistillHook', teacher=dict(teacher, spoilt=[1, 2]), distill=[DIST],
             nonfinite_limit=2)])
    runner = Runner.from_cfg(config)
    with pytest.raises(FloatingPointError, match='in 2 steps in a row'):
        runner.train()
    assert 'forward' not in vars(runner.model)
    assert 'run' not in vars(runner.train_loop)


def test_student_that_diverges_is_named(tmp_path, teacher):
    model = build(dict(distiller(retinanet(), teacher, DIST), nonfinite_limit=1))
    model.init_weights()
    nn.init.constant_(model.bbox_head.retina_cls.bias, float('nan'))
    model.student.bbox_head.loss_by_feat = lambda *args, **kwargs: {}
    with pytest.raises(FloatingPointError, match='the student diverges'):
        model(torch.randn(1, 3, 64, 64), [], mode='loss')


def terms(value, has_gradient=True):
    return dict(loss=[torch.tensor(value, requires_grad=has_gradient)])


def warnings(monkeypatch):
    said = []
    monkeypatch.setattr(health, 'print_log', lambda text, *args, **kwargs: said.append(text))
    return said


def test_constant_term_warns_once(monkeypatch):
    said, one = warnings(monkeypatch), Health()
    for step in range(3 * health.CONSTANT):
        one.check(terms(0.25 if step else 1.), None)
    text, = said
    assert text.startswith('`loss` was exactly 0.25 in 100 steps in a row; the student does')


def test_zero_term_has_its_own_message(monkeypatch):
    said, one = warnings(monkeypatch), Health()
    for _ in range(health.CONSTANT):
        one.check(terms(0.), None)
    assert 'both sides are equal' in said[0]


def test_term_without_a_gradient_warns_once(monkeypatch):
    said, one = warnings(monkeypatch), Health()
    for step in range(5):
        one.check(terms(float(step), False), None)
    text, = said
    assert '`loss` has no gradient for the student' in text


def test_overflow_of_finite_values_has_its_own_message(monkeypatch):
    said, one = warnings(monkeypatch), Health()
    large = [torch.full((2, 3), 1e30)]
    checked, _ = one.check(terms(float('inf')), lambda name: Sides(large, large))
    assert checked['loss'][0].item() == 0
    assert not checked['loss'][0].requires_grad
    assert 'too large for the loss' in said[0]


def test_warnings_become_less_frequent(monkeypatch):
    said, one = warnings(monkeypatch), Health(limit=10)
    for step in range(40):
        one.check(terms(float('nan') if step % 2 else float(step)), lambda name: Sides([], []))
    assert one.left_out == dict(loss=20)
    assert len(said) == 5  # the 1st, 2nd, 4th, 8th and 16th


@MODELS.register_module()
class MapLoss(MODELS.get('mmkd.MSELoss')):
    """A loss that does not reduce its result to a scalar."""

    def compare(self, student, teacher, weight):
        return (student - teacher).square()


def test_loss_that_gives_no_scalar_is_named(tmp_path, teacher):
    with pytest.raises(TypeError, match=r'`loss_cls_map`: MapLoss must return a scalar, or a dict '
                                        r'of '
                       r'named scalars, for each of 5 levels, but returned Tensor of shape '
                       r'\(1, 27, 16, 16\)'):
        build(distiller(retinanet(), teacher, dict(type='mmkd.MapLoss', on='cls'))).prepare()


def test_infinite_sum_of_finite_levels_is_diagnosed(monkeypatch):
    said, one = warnings(monkeypatch), Health()
    huge = dict(loss=[torch.tensor(3e38), torch.tensor(3e38)])
    one.check(huge, lambda name: Sides([torch.ones(2)] * 2, [torch.ones(2)] * 2))
    assert 'too large for the loss' in said[0]


@pytest.mark.parametrize('limit', [0, 2.5, True, 'never'])
def test_limit_must_be_a_count(limit):
    with pytest.raises(ValueError, match='`nonfinite_limit` must be a whole number of 1 or more'):
        Health(limit)
