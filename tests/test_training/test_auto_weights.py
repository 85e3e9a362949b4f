"""``loss_weight='auto'``: a term has the stated share of the gradient of the losses on labels."""
import os
import warnings
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from conftest import (
    build,
    detector_config,
    distiller,
    leave_group,
    retinanet,
    save_teacher,
    saved_at,
    train,
)
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from support.extensions import same_to_the_bit, train_kill_resume
from support.pairs import dense, rois, streets
from support.waits import decided_on_the_device
from torch import distributed, multiprocessing, nn

from mmkd import FAMILIES, BaseTeacher, ModelFamily
from mmkd.losses import LOSSES, DistillLoss
from mmkd.reports.runs import read_run
from mmkd.training.auto_weights import LOWER, LOWEST, ROUNDS
from mmkd.training.shares import norms_of, outputs_of

PKD = dict(type='mmkd.PKDLoss', on='neck')
SHORT = dict(share=0.25, iters=3)
PATHS = pytest.mark.parametrize('path', [nullcontext, decided_on_the_device])


@MODELS.register_module(force=True)
class LinearModel(BaseModel):
    """A model whose loss is 3 times the sum of its features. `side` has no loss."""

    def __init__(self, checkpoints=False):
        super().__init__()
        self.backbone = nn.Conv2d(3, 2, 1)
        self.side = nn.Conv2d(3, 2, 1)
        self.last = nn.Identity()
        self.checkpoints = checkpoints

    def extract_feat(self, inputs):
        self.side(inputs)
        return self.backbone(inputs)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        features = self.extract_feat(inputs)
        if self.checkpoints:
            features = torch.utils.checkpoint.checkpoint(self.last, features, use_reentrant=True)
        return dict(loss_sum=3 * features.sum(), accuracy=100 * features.sum())


@FAMILIES.register_module(force=True)
class LinearFamily(ModelFamily):
    family = 'LinearModel'

    @staticmethod
    def fits(model):
        return isinstance(model, LinearModel)

    @staticmethod
    def points(model):
        return {}

    @staticmethod
    def predict(model, features, paths, at=None, data_samples=None):
        pass


class Frozen(BaseTeacher):
    def prepare(self, student):
        self.model = LinearModel().eval().requires_grad_(False)


@LOSSES.register
class SlopeLoss(DistillLoss):
    """The sum of the student's values, times a factor that depends on the iteration."""

    slopes = (5., )

    def __init__(self, loss_weight=2.):
        super().__init__(loss_weight)

    def compare(self, student, teacher, *, iteration):
        return self.slopes[iteration % len(self.slopes)] * student.sum()


def linear(weight='auto', on='backbone', model=None, kind='mmkd.SlopeLoss', **entry):
    SlopeLoss.slopes = (5., )  # also for the trial before training
    torch.manual_seed(0)
    made = build(distiller(model or dict(type='LinearModel'), Frozen(), dict(
        type=kind, on=on, loss_weight=weight, **entry)))
    made.prepare()
    return made.train()


def steps(model, count, slopes=(5., ), factors=None, begin=0):
    """Run some steps; return their losses."""
    SlopeLoss.slopes, found = slopes, []
    for number in range(begin, begin + count):
        model.distillation.iteration = number
        for term in model.terms if factors else ():
            term.factor = factors[number]
        losses = model(torch.ones(2, 3, 4, 4) + number, [None] * 2, mode='loss')
        found.append({name: value[0].item() if isinstance(value, list) else value.item()
                      for name, value in losses.items()})
    return found


def test_share_is_exact_on_a_linear_model():
    """The gradient of the losses is 3 per value, that of the term 5. Accuracy is not a loss."""
    model = linear(dict(share=0.1, iters=2))
    for one in steps(model, 4):
        # 0.1 * 3 / 5 instead of the default weight 2
        assert one['weight_backbone_slope'] == pytest.approx(0.06)
        assert one['loss_backbone_slope'] == pytest.approx(0.1 * one['loss_sum'], rel=1e-6)
    weight = model.distillation.weights['loss_backbone_slope']
    assert weight.is_fixed
    assert weight.count == 2


def test_weight_is_fixed_after_averaging_norms():
    found = steps(linear(dict(share=0.5, iters=3)), 6, slopes=(1., 2., 6., 100., 100., 100.))
    means = [1, 1.5, 3, 3, 3, 3]
    assert [one['weight_backbone_slope'] for one in found] == pytest.approx(
        [0.5 * 3 / mean for mean in means])


def test_schedule_multiplies_the_measured_weight():
    """Steps in which the term is turned off are not measured."""
    model = linear(dict(share=0.5, iters=3))
    found = steps(model, 6, slopes=(1., 2., 6., 7., 8., 9.), factors=[0.5, 0., 0.1, 1., 1., 0.5])
    assert [one['weight_backbone_slope'] for one in found[2:]] == pytest.approx(
        [0.5 * 3 / mean for mean in (3.5, 14 / 3, 14 / 3, 14 / 3)])
    assert found[1]['loss_backbone_slope'] == 0
    # at the end: weight times slope times half
    assert found[5]['loss_backbone_slope'] == pytest.approx(
        0.5 * 3 / (14 / 3) * 9 / 2 * found[5]['loss_sum'] / 3)


def test_a_term_that_is_zero_is_measured_again(monkeypatch):
    said = []
    monkeypatch.setattr('mmkd.training.auto_weights.print_log',
                        lambda text, *rest: said.append(text))
    model = linear(dict(share=0.5, iters=2))
    found = steps(model, 5, slopes=(0., 0., 0., 4., 4.))
    assert 'no weight was found in 2 iterations, because the gradient of the term at `backbone` ' \
           'was 0; the term is left out, and measured again' in said[0]
    assert [one['loss_backbone_slope'] for one in found[:3]] == [0] * 3
    weight = model.distillation.weights['loss_backbone_slope']
    assert weight.is_fixed  # from the third and the fourth step
    assert said[1].startswith('loss_backbone_slope: loss_weight=0.75, measured in 2 iterations: '
                              'the norm of its gradient at `backbone` is 0.5 times that of the')
    assert said[1].endswith('(2, the default, has 1.33 times)')
    assert found[4]['weight_backbone_slope'] == pytest.approx(0.5 * 3 / 2)


@PATHS
def test_steps_that_are_not_finite_do_not_enter_the_mean(path):
    """They are counted. The scale stays: it has no influence on the value of a term."""
    model = linear(dict(share=0.5, iters=3))
    weight = model.distillation.weights['loss_backbone_slope']
    slopes = (1., float('nan'), 3., 8.)
    with path():
        found = steps(model, 2, slopes)
        assert found[1]['loss_backbone_slope'] == 0
        state = weight.state_dict()
        assert (state['count'], state['overflows'], state['scale']) == (2, 1, 1)
        found = steps(model, 2, slopes, begin=2)
    assert found[1]['weight_backbone_slope'] == pytest.approx(0.5 * 3 / 2)
    assert found[1]['loss_backbone_slope'] == pytest.approx(4 * found[1]['loss_sum'] / 2)


@PATHS
def test_a_term_without_a_weight_is_left_out_where_the_labels_have_no_gradient(path, monkeypatch):
    def forward(self, inputs, data_samples=None, mode='tensor'):
        return dict(loss_sum=0 * self.extract_feat(inputs).sum())

    monkeypatch.setattr(LinearModel, 'forward', forward)
    with path():  # two rounds, and the first iteration of a third one
        found = steps(linear(dict(share=0.5, iters=2)), 5)
    assert [one['loss_backbone_slope'] for one in found] == [0] * 5
    assert [one['weight_backbone_slope'] for one in found] == [0] * 5


@LOSSES.register
class HalfLoss(SlopeLoss):
    """The gradient is computed in float16: it is infinite from 65520 on."""

    def compare(self, student, teacher, *, iteration):
        return (self.slopes[iteration % len(self.slopes)] * student.half()).float().sum()


@LOSSES.register
class SqrtLoss(SlopeLoss):
    """Where the factor is negative, the value is finite, and the gradient is NaN."""

    def compare(self, student, teacher, *, iteration):
        slope = self.slopes[iteration % len(self.slopes)]
        root = (0 * student).square().sum().sqrt() if slope < 0 else 0.
        return slope * student.sum() + root


def root(weight):
    return linear(weight, kind='mmkd.SqrtLoss', name='loss_backbone_slope')


@PATHS
def test_a_term_without_a_weight_has_no_gradient(path):
    """0 times a NaN is NaN. In the third step there is a weight: 0.5 * 3 / 4."""
    model = root(dict(share=0.5, iters=2))
    SlopeLoss.slopes = (-1., -1., 4.)
    with path():
        for number, whole in enumerate((3., 3., 4.5)):
            model.distillation.iteration = number
            model.zero_grad()
            losses = model(torch.ones(2, 3, 4, 4), [None] * 2, mode='loss')
            (losses['loss_sum'] + losses['loss_backbone_slope'][0]).backward()
            found = model.student.backbone.weight.grad
            torch.testing.assert_close(found, torch.full_like(found, whole * 2 * 4 * 4))


class Scaler:
    """Scales as torch's GradScaler."""

    def __init__(self, value=2.**16):
        self.value = value

    def scale(self, loss):
        return loss * self.value


@pytest.fixture
def scaler(monkeypatch):
    wrapper = OptimWrapper(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.))
    wrapper.loss_scaler = Scaler()
    monkeypatch.setattr('mmkd.training.auto_weights.current_optim_wrapper', lambda: wrapper)
    return wrapper.loss_scaler


def half(weight):
    return linear(weight, kind='mmkd.HalfLoss', name='loss_backbone_slope')


def test_a_term_that_overflows_is_measured_in_later_iterations(scaler, monkeypatch):
    """5 * 65536 is infinite in float16, and 5 * 4096 is not. The scaler of the optimizer does not
    learn of it, because the term is not added as long as it has no weight."""
    model = half(dict(share=0.1, iters=3))
    found = steps(model, 4)
    assert [one['loss_backbone_slope'] for one in found[:1]] == [0.]
    assert [one['weight_backbone_slope'] for one in found[1:]] == pytest.approx([0.06] * 3)
    weight = model.distillation.weights['loss_backbone_slope']
    assert weight.is_fixed
    assert weight.state_dict()['scale'] == LOWER


def test_a_term_that_always_overflows_is_an_error(scaler, monkeypatch):
    said = []
    monkeypatch.setattr('mmkd.training.auto_weights.print_log',
                        lambda text, *rest: said.append(text))
    model = half(dict(share=0.1, iters=2))
    scaler.value = 2.**100
    with pytest.raises(ValueError, match=r'`loss_backbone_slope`: no weight was found in 10 itera'
                                         r'.*gradient of the term at `backbone` was infinite or '
                                         r'NaN in 2 of the last 2 iterations; train without '
                                         r'float16, or write a number for `loss_weight`'):
        steps(model, 2 * ROUNDS)
    assert len(said) == ROUNDS - 1
    assert all(one.endswith('the term is left out, and measured again') for one in said)


def test_the_scale_does_not_reach_zero(scaler):
    """Without a lower bound the scale would be 2**(16 - 4 * 45), which is 0 in float32."""
    model = root(dict(share=0.1, iters=50))
    found = steps(model, 50, slopes=(-1., ) * 45 + (5., ) * 5)
    assert model.distillation.weights['loss_backbone_slope'].state_dict()['scale'] == LOWEST
    assert [one['weight_backbone_slope'] for one in found] == pytest.approx([0.] * 45 + [0.06] * 5)


def test_without_a_loss_scaler_float16_is_not_the_reason():
    with pytest.raises(ValueError, match=r'infinite or NaN in 1 of the last 1 iterations; compare '
                                         r'another point, or look for an infinite derivative in '
                                         r'the loss, such as that of a square root at 0, or write'):
        steps(root(dict(share=0.1, iters=1)), ROUNDS, slopes=(-1., ))


def test_a_term_that_is_always_zero_is_an_error():
    model = linear(dict(share=0.1, iters=2))
    with pytest.raises(ValueError, match=r'no weight was found in 10 iterations, because the '
                                         r'gradient of the term at `backbone` was 0; compare '
                                         r'another point'):
        steps(model, 2 * ROUNDS, slopes=(0., ))


def test_in_eval_mode_nothing_is_measured():
    model = linear(dict(share=0.5, iters=1))
    model.eval()
    found, = steps(model, 1)
    assert found['weight_backbone_slope'] == 2  # the default
    assert not model.distillation.weights['loss_backbone_slope'].is_fixed


def test_a_point_that_no_loss_reaches_is_refused():
    with pytest.raises(ValueError, match='the losses on labels do not depend on `side` of the '
                                         'student.*write a number, or compare another point'):
        steps(linear(on='side'), 1)


def test_a_module_that_is_computed_again_is_refused():
    with pytest.raises(ValueError, match=r'with_cp=True.*write with_cp=False, or a number'):
        steps(linear(model=dict(type='LinearModel', checkpoints=True)), 1)


@pytest.mark.parametrize(('weight', 'entry', 'says'), [
    ('Auto', {}, "must be a number, 'auto' or dict(share=...), but got 'Auto'"),
    (dict(shares=0.3), {}, "has no key 'shares' (closest: `share`)"),
    (dict(share=0), {}, '`loss_weight.share` must be greater than 0, but got 0'),
    (dict(share='much'), {}, "`loss_weight.share` must be a number, but got 'much'"),
    (dict(iters=0), {}, '`loss_weight.iters` must be 1 or more, but got 0'),
    (dict(iters=2.5), {}, '`loss_weight.iters` must be a whole number, but got 2.5'),
    ('auto', dict(alpha=0.5), 'but `alpha` already says what part the term has; write a number'),
    ('auto', dict(images='unlabelled'), 'unlabelled images have no loss on labels'),
    ('auto', dict(between=['student', 'teacher']), '`each network` learns'),
])
def test_wrong_settings_are_refused_before_training(weight, entry, says):
    import re
    with pytest.raises((TypeError, ValueError), match=re.escape(says)):
        linear(weight, **entry)


@pytest.mark.parametrize('kind', ['MeanTeacher', 'EarlierSelf'])
def test_a_teacher_that_equals_the_student_is_refused(kind):
    with pytest.raises(ValueError, match=f'is a {kind}, which equals the student.*write a num'):
        build(distiller(retinanet(), dict(type=f'mmkd.{kind}'), dict(
            type='mmkd.MSELoss', on='neck', loss_weight='auto')))


def test_a_resume_with_fewer_iterations_fixes_the_weight():
    model = linear(dict(share=0.1, iters=6))
    steps(model, 4)
    other = linear(dict(share=0.1, iters=2))
    weight = other.distillation.weights['loss_backbone_slope']
    weight.load_state_dict(model.distillation.weights['loss_backbone_slope'].state_dict())
    assert not weight.is_fixed
    steps(other, 2, begin=4)
    assert weight.is_fixed
    assert weight.count == 5


def shares_shown(monkeypatch, **settings):
    """The shares that the visualizer gets, by step; the measurement is resumed after 2 of 4."""
    shown = {}
    runner = SimpleNamespace(visualizer=SimpleNamespace(
        add_scalar=lambda name, value, step: shown.update({step: value})))
    monkeypatch.setattr('mmkd.training.auto_weights.current_runner', lambda: runner)
    begun, model = (linear(dict(share=0.5, iters=4)) for _ in range(2))
    steps(begun, 2, **settings)
    assert not shown
    model.distillation.side_modules.load_state_dict(begun.distillation.side_modules.state_dict())
    model._steps = 2  # a Runner would say it
    steps(model, 3, begin=2, **settings)
    assert model.distillation.weights['loss_backbone_slope'].state_dict()['shares'] == []
    return shown


def test_shares_are_those_of_the_iterations_also_after_a_resume(monkeypatch):
    """Means of the slopes: 1, 1.5, 3, 3. The fifth step is not measured."""
    shown = shares_shown(monkeypatch, slopes=(1., 2., 6., 3., 9.))
    assert shown == pytest.approx({1: 0.5, 2: 0.5 * 2 / 1.5, 3: 0.5 * 6 / 3, 4: 0.5 * 3 / 3})


def test_shares_contain_the_factor_of_the_schedule(monkeypatch):
    shown = shares_shown(monkeypatch, factors=(0.1, 0.2, 0., 0.4, 0.5))
    assert shown == pytest.approx({1: 0.05, 2: 0.1, 4: 0.2, 5: 0.25})


def test_an_output_has_the_gradient_of_all_that_follows():
    """The second output is computed from the first one; its reader changes the first one in place.

    Gradients of the task: (4, 3, 4) and (1, 1, 1); of the term: (6, 6, 6) and (2, 2, 2).
    """
    class Pyramid(nn.Module):
        def forward(self, x):
            first = 2 * x
            return first, 3 * first

    module = nn.Sequential(Pyramid())  # both modules return the same tensors
    with outputs_of(module, ['', '0']) as found:
        first, second = module(torch.tensor([1., -1., 1.], requires_grad=True))
    task = second.sum() + first.relu_().sum()
    norms = norms_of(2 * second.sum(), task, ['', '0'], found, 'loss').tolist()
    assert norms == pytest.approx([44**.5, 120**.5, 6. * 11 + 2 * 3])


# --- whole models ---------------------------------------------------------------------------------


@pytest.mark.parametrize('pair', [dense, rois, streets])
def test_share_on_whole_models_equals_plain_gradients(pair, tmp_path):
    """Gradients are taken at the neck, or at the backbone if there is no neck. They are compared
    with those of the losses that the model returns.
    """
    student, teacher, batch, scope, (features, logits) = pair(tmp_path)
    model = build(distiller(
        student, teacher, dict(type='mmkd.MSELoss', on=features, loss_weight=dict(share=0.2)),
        dict(type='mmkd.KDLoss', on=logits, loss_weight=dict(share=0.7))), scope)
    model.init_weights()
    model.train()
    data = model.data_preprocessor(batch, True)
    kept = []
    module = model.student.get_submodule(features)

    module.register_forward_hook(lambda module, args, output: kept.extend(output))
    losses = model(**data, mode='loss')
    sums = {name: sum(value) if isinstance(value, (list, tuple)) else value
            for name, value in losses.items() if 'loss' in name}
    terms = {f'loss_{features}_mse': 0.2, 'loss_cls_kd': 0.7}
    own = sum(value for name, value in sums.items() if name not in terms)
    for name, share in terms.items():
        found = [torch.autograd.grad(sums[name], kept, retain_graph=True, allow_unused=True),
                 torch.autograd.grad(own, kept, retain_graph=True, allow_unused=True)]
        norms = [torch.cat([one.flatten() for one, used in zip(side, found[0])
                            if used is not None]).norm() for side in found]
        assert (norms[0] / norms[1]).item() == pytest.approx(share, rel=1e-4), name
    sum(sums.values()).backward()  # the graph is kept


def test_share_of_the_features_of_a_segmentor(tmp_path):
    """They are the input of the classifier, whose output does not depend on the term."""
    student, teacher, batch, scope, _ = streets(tmp_path)
    model = build(distiller(student, teacher, dict(
        type='mmkd.ATLoss', on='features', loss_weight=dict(share=0.2))), scope)
    model.init_weights()
    model.train()
    kept = []
    model.student.decode_head.conv_seg.register_forward_pre_hook(
        lambda module, args: kept.extend(args))
    losses = model(**model.data_preprocessor(batch, True), mode='loss')
    own = sum(value for name, value in losses.items() if 'loss' in name and 'features' not in name)
    norms = [torch.autograd.grad(one, kept, retain_graph=True)[0].norm() for one in (
        sum(losses['loss_features_at']), own)]
    assert (norms[0] / norms[1]).item() == pytest.approx(0.2, rel=1e-4)


def measured_config(shapes, teacher, work_dir, **changes):
    entries = [dict(PKD, loss_weight=dict(share=0.25, iters=5)),
               dict(type='mmkd.DISTLoss', on='cls', loss_weight=dict(share=0.1, iters=3))]
    return detector_config(shapes, distiller(retinanet(), teacher, *entries), str(work_dir), **{
        'train_cfg.max_epochs': 4, 'train_cfg.val_interval': 9,
        'train_dataloader.dataset.pipeline.3.prob': 0., **changes})


@pytest.mark.slow
def test_resumed_in_the_middle_of_the_measurement_to_the_bit(shapes, tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', retinanet(channels=24))

    def make(work_dir, **changes):
        return measured_config(shapes, teacher, work_dir, **changes)

    whole, end = train_kill_resume(make, retinanet(), tmp_path)
    weights = [one['weight_neck_pkd'] for one in whole]
    assert len({*weights[:5]}) == 5
    assert len({*weights[4:]}) == 1
    assert len({one['weight_cls_dist'] for one in whole[2:]}) == 1
    assert bool(end['mmkd']['weights']['loss_neck_pkd']['is_fixed'])


@pytest.mark.slow
def test_a_checkpoint_without_the_weight_is_not_resumed(shapes, tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', retinanet())
    plain = {'model.distill': [PKD], 'train_cfg.max_epochs': 1}
    train(measured_config(shapes, teacher, tmp_path / 'run', **plain))
    config = measured_config(shapes, teacher, tmp_path / 'run', resume=True)
    config.model.distill = [dict(PKD, loss_weight='auto')]
    with pytest.raises(ValueError, match='has other measured weights than the config'):
        train(config)


@pytest.mark.slow
def test_the_hook_measures_the_same_weights(shapes, tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', retinanet())
    entries = [dict(PKD, loss_weight=SHORT)]
    found = []
    for name, model in (('model', distiller(retinanet(), teacher, *entries)),
                        ('hook', retinanet())):
        config = measured_config(shapes, teacher, tmp_path / name, **{
            'train_cfg.max_epochs': 2,
            'optim_wrapper.accumulative_counts': 2})
        config.model = model
        if name == 'hook':
            config.custom_hooks = [dict(type='mmkd.DistillHook', teacher=teacher, distill=entries)]
        train(config)
        found.append(saved_at(tmp_path / name / 'epoch_2.pth'))
        run = read_run(str(tmp_path / name))
        scalar, = run.shares
        assert scalar == 'gradient_share/loss_neck_pkd'
        shares = run.series(scalar)
        assert [step for step, _ in shares] == [1, 2, 3]
        assert shares[0][1] == pytest.approx(SHORT['share'])  # of its own norms alone
        assert 0.05 < shares[2][1] < 1
    for key in ('state_dict', 'mmkd'):
        same_to_the_bit(*(one[key] for one in found))
    assert int(found[0]['mmkd']['weights']['loss_neck_pkd']['count']) == 3


def test_a_loss_scaler_does_not_change_the_weight(scaler):
    model = linear(dict(share=0.1, iters=2))
    assert [one['weight_backbone_slope'] for one in steps(model, 3)] == pytest.approx([0.06] * 3)


def work(rank, folder):
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    distributed.init_process_group('gloo', rank=rank, world_size=2,
                                   init_method=f'file://{folder}/meeting')
    model = linear(dict(share=0.5, iters=2))
    found = steps(model, 3, slopes=(1., 2.) if rank == 0 else (3., 6.))
    model = root(dict(share=0.5, iters=3))
    found += steps(model, 3, slopes=(1., 8., 2.) if rank == 0 else (3., -6., 6.))
    overflows = model.distillation.weights['loss_backbone_slope'].state_dict()['overflows'].item()
    torch.save(([one['weight_backbone_slope'] for one in found], overflows),
               os.path.join(folder, f'{rank}.pth'))
    leave_group()


@pytest.mark.slow
def test_two_processes_have_the_same_weight(tmp_path):
    """The slopes are averaged over both processes: 2, then 3. In the second training the gradient
    of one process is NaN in the second iteration, which is left out in both."""
    multiprocessing.spawn(work, (str(tmp_path), ), nprocs=2)
    for rank in range(2):
        found, overflows = torch.load(tmp_path / f'{rank}.pth')
        assert found == pytest.approx([0.5 * 3 / mean for mean in (2, 3, 3, 2, 2, 3)])
        assert overflows == 1
