"""A term that is not finite does not affect training, although no value is read from the device."""
import copy
import os
import warnings

import pytest
import torch
from conftest import CLASSES, build, distiller, leave_group, retinanet, save_teacher
from loops import images
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from support.waits import decided_on_the_device
from torch import distributed, multiprocessing, nn

from mmkd.registry import MODELS
from mmkd.training import health
from mmkd.training.gate import Gate, Report, shared_through
from mmkd.training.health import Health, Sides

NAN = float('nan')
DIST = dict(type='mmkd.DISTLoss', on='cls')
MSE = dict(type='mmkd.MSELoss', on='neck')  # with a connector


@MODELS.register_module()
class SometimesNaN(MODELS.get('mmkd.FrozenTeacher')):
    """Returns NaN in its second step if ``is_spoilt`` is set."""
    steps = 0
    is_spoilt = False

    def observe(self, inputs, data_samples, questions):
        told = super().observe(inputs, data_samples, questions)
        self.steps += data_samples is not None
        if self.is_spoilt and self.steps == 2:
            for answers in told.values():
                for answer in answers.values():
                    answer.levels[1][:, 0] = NAN
        return told


# --- the gate ------------------------------------------------------------------------------------


def roots(gate, inputs, layer):
    """The value is NaN, and the derivative of the root is infinite at 0."""
    return gate.value(layer(gate.passed(inputs)).sqrt().sum() * NAN)


@pytest.mark.parametrize('is_open', [False, True])
def test_gradients_are_cut_where_they_leave_the_term(is_open):
    inputs, layer, gate = torch.zeros(3, 2, requires_grad=True), nn.Linear(2, 2), Gate(True)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    health = Health()
    with decided_on_the_device():
        health.guard({'loss': layer.parameters()})
        gate = health.gate('loss', inputs.device)
    gate.is_open = torch.tensor(is_open)
    loss = roots(gate, inputs, layer)
    loss.backward()
    found = [inputs.grad, *(p.grad for p in layer.parameters())]
    if is_open:
        assert loss.isnan()
        assert any(one.isnan().any() for one in found)
    else:
        assert loss == 0
        assert not any(one.any() for one in found)


def test_open_gate_keeps_values_and_gradients():
    inputs, gate = torch.randn(3, requires_grad=True), Gate(True)
    gate.is_open = torch.tensor(True)
    gate.value((gate.passed(inputs)**2).sum()).backward()
    assert torch.equal(inputs.grad, 2 * inputs.detach())
    assert Gate(False).passed(inputs) is inputs


def test_shared_modules_recognise_each_others_outputs():
    """The second module gets the first one's own output, because it may recognise it by identity.
    """
    first, second, given = nn.Linear(2, 2), nn.Identity(), []
    forward = first.forward
    kept = torch.randn(2, 2, requires_grad=True)
    first.forward = lambda x: kept
    second.forward = lambda x: given.append(x) or x
    gate = Gate(True)
    gate.is_open = torch.tensor(False)
    parameters = dict(first.named_parameters())
    with shared_through(gate, [first, second]):
        out = second(first(torch.zeros(2, 2)))
        assert first.weight is not parameters['weight']
        anew = forward(torch.full((2, 2), NAN))
    assert given[0] is kept
    assert dict(first.named_parameters()) == parameters
    assert first.weight is parameters['weight']
    (out.sum() * NAN + anew.sum()).backward()
    assert not kept.grad.any()
    assert not first.weight.grad.any()


# --- later reports -------------------------------------------------------------------------------


def test_warning_is_logged_when_the_next_step_begins(monkeypatch):
    said, one = [], Health(limit=2)
    monkeypatch.setattr(health, 'print_log', lambda text, *args, **kwargs: said.append(text))
    terms = dict(loss=[torch.tensor(NAN, requires_grad=True)])
    with decided_on_the_device():
        one.begin()
        checked, own = one.check(terms, lambda name: Sides([torch.ones(2)], [torch.ones(2) * NAN]),
                                 {'other': dict(loss=torch.tensor(1.))}, dict(loss='other'))
        assert checked['loss'][0] == 0
        assert own['other']['loss'] == 1
        assert not said
        one.begin()
        text, = said
        assert 'the student from 1 to 1, the teacher no number and 2 of 2 not finite' in text
        assert one.left_out == dict(loss=1)
        one.check(terms, lambda name: Sides([], []))
        with pytest.raises(FloatingPointError, match='in 2 steps in a row'):
            one.begin()


def test_diverged_network_is_left_out_on_the_device():
    one = Health()
    terms = {name: [torch.tensor(1., requires_grad=True)] for name in ('loss_a', 'loss_b')}
    with decided_on_the_device():
        checked, own = one.check(terms, None, {'one': dict(loss=torch.tensor(float('inf')), acc=1),
                                               'two': dict(loss=[torch.tensor(1.)])},
                                 dict(loss_a='one', loss_b='two'))
        one.begin()
    assert (checked['loss_a'][0], checked['loss_b'][0]) == (0, 1)
    assert (own['one'], own['two']) == (dict(loss=0, acc=1), dict(loss=[1]))
    assert (one.left_out, one.spoilt) == (dict(one=1), {'one'})


def test_missing_results_are_not_waited_for(monkeypatch):
    said, one = [], Health()
    monkeypatch.setattr(health, 'print_log', lambda text, *args, **kwargs: said.append(text))
    monkeypatch.setattr(Report, 'has_arrived', lambda self: False)
    with decided_on_the_device():
        for step in range(health.MOST_BEHIND + 1):
            one.begin()
            assert not said
            one.check(dict(loss=[torch.tensor(NAN if step == 0 else 1.)]),
                      lambda name: Sides([], []))
        one.begin()
    assert '`loss` is infinite or NaN' in said[0]


def test_copy_does_not_take_part_in_the_step():
    one = Health()
    with decided_on_the_device():
        one.check(dict(loss=[torch.tensor(1.)]), lambda name: Sides([], []))
    other = copy.deepcopy(one)
    other.begin()
    assert not other._last
    one.begin()
    assert one._last == dict(loss=1)


def test_infinite_gradients_are_removed_on_the_device():
    one, (good, bad) = Health(), (nn.Parameter(torch.ones(2)) for _ in range(2))
    good.grad, bad.grad = torch.ones(2), torch.tensor([NAN, 1.])
    with decided_on_the_device():
        one.check_gradients(dict(good=[good], bad=[bad]))
        assert torch.equal(good.grad, torch.ones(2))
        assert torch.equal(bad.grad, torch.zeros(2))
        one.begin()
    assert one.left_out == dict(bad=1)


# --- whole models --------------------------------------------------------------------------------


def trained(folder, numbers=(0, 1), wrap=lambda model: model, is_spoilt=False, leave_out=None):
    """Train for three steps; return weights, momentum and losses. ``leave_out`` sets an attribute
    of the terms to 0 in the second step.
    """
    student = retinanet()
    student['backbone']['norm_eval'] = True
    teacher = dict(config=dict(default_scope='mmdet', model=retinanet(channels=24)),
                   checkpoint=f'{folder}/teacher.pth', type='mmkd.SometimesNaN')
    torch.manual_seed(2)
    model = build(dict(distiller(student, teacher, DIST, MSE), classes=list(CLASSES)))
    model.init_weights()
    model.train()
    model.teacher.is_spoilt = is_spoilt
    wrapper = wrap(model)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3,
                                momentum=0.9, weight_decay=0.1)
    optim_wrapper, logs = OptimWrapper(optimizer), []
    for step in range(3):
        for match in model.terms:
            match.factor = 0. if (leave_out, step) == ('factor', 1) else 1.
            match.loss.loss_weight = 0. if (leave_out, step) == ('loss_weight', 1) else 1.
        logged = wrapper.train_step(copy.deepcopy(images(numbers)), optim_wrapper)
        logs.append({name: value.item() for name, value in logged.items()})
    beside = model.distillation.trained_beside
    assert beside
    parameters = [*model.parameters(), *beside]
    return ([p.detach().clone() for p in parameters],
            [optimizer.state[p]['momentum_buffer'].clone() for p in parameters
             if optimizer.state[p].get('momentum_buffer') is not None], logs)


def assert_same(found, expected):
    for one, other in zip(found[:2], expected[:2]):
        assert len(one) == len(other)
        assert all(map(torch.equal, one, other))
        assert all(tensor.isfinite().all() for tensor in one)


def check_left_out(found, expected):
    """The results are bitwise equal, and the terms are 0 only in the second step."""
    assert_same(found, expected)
    for name in ('loss_cls_dist', 'loss_neck_mse'):
        assert [one[name] == 0 for one in found[2]] == [False, True, False]


def both_ways(folder, **how):
    """Each mode with the run that it must equal.

    If the values are read at once, parameters outside the student have no gradient; if they stay on
    the device, the gradient is 0.
    """
    found = {}
    found['at once'] = trained(folder, **dict(how, is_spoilt=False), leave_out='factor')
    found['at once, spoilt'] = trained(folder, **how)
    with decided_on_the_device():
        found['device'] = trained(folder, **dict(how, is_spoilt=False), leave_out='loss_weight')
        found['device, spoilt'] = trained(folder, **how)
    return found


def test_a_step_without_the_term_trains_the_same(tmp_path):
    save_teacher(tmp_path / 'teacher.pth', retinanet(channels=24))
    found = both_ways(tmp_path, is_spoilt=True)
    check_left_out(found['at once, spoilt'], found['at once'])
    check_left_out(found['device, spoilt'], found['device'])


def work(rank, folder):
    """Only the second process has NaN; the first process must leave the term out, too."""
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    os.environ['LOCAL_RANK'] = str(rank)
    distributed.init_process_group('gloo', rank=rank, world_size=2,
                                   init_method=f'file://{folder}/meeting')
    found = both_ways(folder, numbers=[rank], is_spoilt=rank == 1, wrap=lambda model: (
        MMDistributedDataParallel(model, broadcast_buffers=False)))
    torch.save(found, f'{folder}/{rank}.pth')
    leave_group()


@pytest.mark.slow
def test_nan_in_one_process_does_not_affect_training(tmp_path):
    save_teacher(tmp_path / 'teacher.pth', retinanet(channels=24))
    multiprocessing.spawn(work, (str(tmp_path), ), nprocs=2)
    first, second = (torch.load(tmp_path / f'{rank}.pth') for rank in range(2))
    for way in ('at once', 'device'):
        for found in (first, second):
            check_left_out(found[f'{way}, spoilt'], found[way])
        assert_same(first[f'{way}, spoilt'], second[f'{way}, spoilt'])


def with_a_partner(spoil, is_on_device=True, partner=True, **settings):
    """Run two steps of a student whose partner shares its backbone; return its weights."""
    torch.manual_seed(2)
    entry = dict(type='mmkd.KDLoss', on=dict(student='other:cls', teacher='student:cls'))
    model = build(dict(
        type='mmkd.Distiller', student=retinanet(), distill=[entry], classes=list(CLASSES),
        companions=dict(other=dict(config=dict(default_scope='mmdet', model=retinanet()),
                                   shared=['backbone'], **settings))) if partner else retinanet())
    torch.manual_seed(2)
    if partner:
        model.student.init_weights()
        model.prepare()
        spoil(model.distillation.partners['other'].model)
    else:
        model.init_weights()
    wrapper = OptimWrapper(torch.optim.SGD(model.train().parameters(), lr=1e-3, momentum=0.9))
    for _ in range(2):
        if is_on_device:
            with decided_on_the_device():
                logged = model.train_step(images([0, 1]), wrapper)
        else:
            logged = model.train_step(images([0, 1]), wrapper)
    return model.state_dict(), logged


def corrupt_head(model):
    nn.init.constant_(model.bbox_head.retina_cls.bias, NAN)


def corrupt_norm(model):
    nn.init.constant_(model.backbone.bn1.weight, NAN)


@pytest.mark.parametrize(('spoil', 'settings'), [
    (corrupt_head, {}), (corrupt_head, dict(separate_norm=True)),
    (corrupt_norm, dict(separate_norm=True))])
def test_diverging_partner_does_not_train_shared_parts(spoil, settings):
    expected, _ = with_a_partner(None, partner=False)
    found, logged = with_a_partner(spoil, **settings)
    assert logged['other.loss_cls'] == logged['loss_other_cls_kd_from_student'] == 0
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize('settings', [{}, dict(separate_norm=True)])
def test_finite_partner_is_trained_normally(settings):
    (found, logged), (expected, other) = (
        with_a_partner(lambda model: None, flag, **settings) for flag in (True, False))
    assert logged['other.loss_cls'] > 0
    assert {name: value.item() for name, value in logged.items()} == {
        name: value.item() for name, value in other.items()}
    assert all(torch.equal(found[name], value) for name, value in expected.items())
