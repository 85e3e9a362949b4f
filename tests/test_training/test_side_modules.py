"""Modules and buffers outside the student are the same in several processes as in one."""
import copy
import doctest
from collections import OrderedDict
from contextlib import nullcontext

import pytest
import torch
from support.processes import in_processes
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from mmkd.core.processes import alone
from mmkd.losses import Bank, DistillLoss
from mmkd.training import side_modules
from mmkd.training.side_modules import SideModules


class Partner:
    """A partner like mmkd's: a network that shares its first layer with the student."""

    def __init__(self, student):
        self.model = nn.Sequential(student[0], nn.Tanh(), nn.Linear(3, 5))
        self.model[2].register_buffer('seen', torch.zeros((), dtype=torch.int64))

    def own_parameters(self):
        return list(self.model[2].parameters())

    def state_dict(self):
        return self.model[2].state_dict(keep_vars=True)

    def load_state_dict(self, state):
        self.model[2].load_state_dict(state)

    def _apply(self, fn):
        self.model._apply(fn)


class Teacher:
    """A teacher without trained parameters."""

    def __init__(self):
        self.model = nn.Linear(4, 5)

    def state_dict(self):
        return {}

    def _apply(self, fn):
        self.model._apply(fn)


class Loss(nn.Module):
    """A loss with a layer, a frozen layer, an unused parameter, and a bank."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 2)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.unused = nn.Parameter(torch.ones(3))
        self.bank = Bank(4, 2, saved='float16')

    def forward(self, x):
        return self.frozen(self.layer(x)).square().mean(1)


def build(seed=0):
    """Return a student and its side modules of all kinds."""
    torch.manual_seed(seed)
    student = nn.Sequential(nn.Linear(4, 3), nn.Tanh()).double()
    side = SideModules(dict(
        losses=dict(loss_b=Loss()), networks=dict(teacher=Teacher(), partner=Partner(student)),
        connectors=dict(loss_b=nn.ModuleList([nn.Linear(3, 5)]), loss_a=nn.Linear(3, 5))))
    side._apply(lambda one: one.double() if one.is_floating_point() else one)
    return student, side


# --- training in several processes --------------------------------------------------------------

SPREAD = {2: dict(even=(6, 6), uneven=(9, 3), nothing=(12, 0), clip=(6, 6), scaler=(6, 6),
                  accumulate=(6, 6), zeros=(6, 6), error=(6, 6)),
          3: dict(even=(4, 4, 4), uneven=(1, 8, 3), nothing=(0, 12, 0), clip=(4, 4, 4),
                  scaler=(4, 4, 4), accumulate=(4, 4, 4), zeros=(4, 4, 4), error=(4, 4, 4))}
"""Numbers of rows per process, of twelve rows, by test case."""


def losses(student, wrapped, side, rows, target):
    """Return the student's own loss with the partner's, and a term for each connector."""
    features = wrapped(rows)
    own = features.square().mean()
    if not len(rows):  # nothing to compare: no parameter outside the student gets a gradient
        return features.sum() * 0, side.anchor(features.new_zeros(()))
    (first, ), second = side.of('connectors')['loss_b'], side.of('connectors')['loss_a']
    term = side.of('losses')['loss_b'](first(features)).mean()
    hint = (second(features) - target).square().mean()
    partner = side.of('networks')['partner'].model[2](rows[:, :3])
    mutual = (partner - target).square().mean()
    # The number of anchored terms may differ between processes.
    return (own + mutual, side.anchor(term), *(
        [side.anchor(hint)] if len(rows) % 2 else [hint]))


class Descent:
    """SGD with momentum. torch.optim imports the compiler, which takes a second."""

    def __init__(self, parameters):
        self.param_groups = [dict(params=parameters)]
        self.momentum = [torch.zeros_like(one) for one in parameters]

    def zero_grad(self, set_to_none=True):
        for one in self.param_groups[0]['params']:
            one.grad = None if set_to_none or one.grad is None else torch.zeros_like(one)

    @torch.no_grad()
    def step(self):
        for one, momentum in zip(self.param_groups[0]['params'], self.momentum):
            if one.grad is not None:
                momentum.mul_(0.9).add_(one.grad + 0.01 * one)
                one.sub_(0.1 * momentum)


class Broken(torch.autograd.Function):

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise KeyError('broken')


def train(name, rank=0, world=1):
    """Train for three steps; return the gradients of each step and the final parameters."""
    student, side = build()
    # DistributedDataParallel imports torch's compiler, which takes a second. With two processes,
    # gradients are averaged below instead.
    is_wrapped = world == 3
    wrapped = DistributedDataParallel(student, find_unused_parameters=True) if is_wrapped \
        else student
    everything = [*student.parameters(), *side.parameters()]
    optimizer = Descent(everything)
    scaler = torch.amp.GradScaler('cpu', init_scale=1024., enabled=name == 'scaler' and world > 1)
    passes = 3 if name in ('accumulate', 'zeros') else 1
    sizes = SPREAD[world][name] if world > 1 else (12, )
    part = slice(sum(sizes[:rank]), sum(sizes[:rank + 1]))
    generator, gradients = torch.Generator().manual_seed(3), []
    for step in range(3):
        optimizer.zero_grad(set_to_none=name != 'zeros')
        for number in range(passes):
            rows, target = (torch.randn(12, columns, generator=generator,
                                        dtype=torch.float64)[part] for columns in (4, 5))
            is_last = number == passes - 1
            with wrapped.no_sync() if is_wrapped and not is_last else nullcontext():
                terms = losses(student, wrapped, side, rows, target)
                if name == 'error' and step == 1:
                    with pytest.raises(KeyError, match='broken'):
                        sum(side.anchor(Broken.apply(one)) for one in terms[1:]).backward()
                    optimizer.zero_grad()
                scaler.scale(sum(terms) / passes).backward()
        if world == 2:
            for parameter in student.parameters():
                distributed.all_reduce(parameter.grad)
                parameter.grad /= world
        if name in ('clip', 'scaler'):
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(everything, 0.05)
        gradients += [None if p.grad is None else p.grad.clone() for p in everything]
        scaler.step(optimizer)
        scaler.update()
    return [gradients, [p.detach().clone() for p in everything]]


def begin(rank):
    """Processes start with different values."""
    _, side = build(seed=rank)
    bank = side.of('losses')['loss_b'].bank
    with alone():
        bank.push(torch.full((rank + 1, 2), rank + 1.))
    side.of('networks')['partner'].model[2].seen += rank
    side.start_from_rank_0()
    return [*side.tensors(), bank.read()]


def count_exchanges(rank):
    """Count the exchanges of two backward passes, each with several anchored terms."""
    _, side = build()
    counted, average = [], side_modules.average_gradients
    side_modules.average_gradients = lambda parameters: (counted.append(1), average(parameters))
    try:
        x = torch.ones((), dtype=torch.float64, requires_grad=True)
        for _ in range(2):
            (side.anchor(x) + side.anchor(x * 2) + x).backward()
        with torch.no_grad():
            assert side.anchor(x) is x
    finally:
        side_modules.average_gradients = average
    empty = SideModules()
    assert empty.anchor(x) is x
    return len(counted)


def work(rank, world):
    found = {name: train(name, rank, world) for name in SPREAD[world]}
    found['begin'] = begin(rank)
    found['exchanges'] = count_exchanges(rank)
    distributed.barrier()
    return found


def check(folder, world):
    parts = in_processes(work, world, folder)
    for name in SPREAD[world]:
        for one, other in zip(*(flatten(part[name]) for part in parts[:2])):
            assert (one is None) == (other is None), name
            assert one is None or torch.equal(one, other), name  # bitwise equal in all processes
        if name in ('uneven', 'nothing'):
            continue
        whole = train(name)
        for part in parts:
            for one, other in zip(flatten(part[name]), flatten(whole)):
                assert (one is None) == (other is None), name
                if one is not None:
                    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    missing = [[one is None for one in part['nothing'][0]] for part in parts]
    # The unused parameter has no gradient in any of the three steps.
    assert [sum(one) for one in missing] == [3] * world
    # Only one process has rows, so its gradient is divided by the number of processes.
    student, _ = build()
    first = len(list(student.parameters()))
    for one, other in zip(parts[0]['nothing'][0][first:], train('even')[0][first:]):
        if one is not None:
            torch.testing.assert_close(one * world, other, rtol=1e-9, atol=1e-12)
        if one is None:
            break  # later steps differ
    for part in parts:
        assert part['exchanges'] == 2
        assert len(part['begin']) == len(parts[0]['begin'])
        for one, other in zip(part['begin'], parts[0]['begin']):
            assert torch.equal(one, other)
        assert part['begin'][-1].tolist() == [[1., 1.]]


def flatten(found):
    return [one for tensors in found for one in tensors]


def test_two_processes_train_as_one_with_the_whole_batch(tmp_path):
    check(tmp_path, 2)


@pytest.mark.slow
def test_three_processes_train_as_one_with_the_whole_batch(tmp_path):
    check(tmp_path, 3)


# --- one process --------------------------------------------------------------------------------


def test_example():
    found = doctest.testmod(side_modules)
    assert found.attempted
    assert not found.failed


def test_order_is_fixed_and_kept_on_resume():
    student, side = build()
    names = [name for name, _ in side.named_parameters()]
    assert names == [
        'connectors.loss_b.0.weight', 'connectors.loss_b.0.bias', 'connectors.loss_a.weight',
        'connectors.loss_a.bias', 'networks.partner.2.weight', 'networks.partner.2.bias',
        'losses.loss_b.unused', 'losses.loss_b.layer.weight', 'losses.loss_b.layer.bias']
    assert not {id(one) for one in side.parameters()} & {id(one) for one in student.parameters()}
    assert not {id(one) for one in side.tensors()} & {id(one) for one in student.parameters()}
    # A checkpoint with another order, without one of the connectors, and without losses.
    side.keep_order(dict(connectors=OrderedDict(loss_a={}, loss_c={}), networks=dict(partner={})))
    assert [name for name, _ in side.named_parameters()] == [*names[2:4], *names[:2], *names[4:]]
    assert list(side.state_dict()['connectors']) == ['loss_a', 'loss_b']


def test_a_module_of_two_names_is_trained_once():
    layer = nn.Linear(2, 2)
    side = SideModules(dict(connectors=dict(a=layer, b=layer), later=dict(c=layer)))
    assert len(side.parameters()) == len(side.tensors()) == 2


def test_state_is_a_copy_and_can_be_loaded():
    _, side = build()
    state = side.state_dict()
    kept = copy.deepcopy(state)
    assert list(state) == ['connectors', 'networks', 'losses']
    assert {kind: list(named) for kind, named in state.items()} == dict(
        connectors=['loss_b', 'loss_a'], networks=['partner'], losses=['loss_b'])
    with torch.no_grad():
        for tensor in side.tensors():
            tensor.add_(1)
    for kind, named in state.items():  # it does not change with further training
        for name, its in named.items():
            for key, value in its.items():
                assert torch.equal(value, kept[kind][name][key])
    _, other = build(seed=1)
    other.load_state_dict(state)
    for kind, named in other.state_dict().items():
        for name, its in named.items():
            assert list(its) == list(state[kind][name])
            for key, value in its.items():
                assert torch.equal(value, state[kind][name][key])
    assert SideModules().state_dict() == {}
    SideModules().load_state_dict({})


@pytest.mark.parametrize(('change', 'message'), [
    (lambda state: state['connectors'].pop('loss_a'), 'has other connectors than the config'),
    (lambda state: state['connectors']['loss_a'].update(bias=torch.ones(4)),
     r"only in the checkpoint: {'loss_a.bias': \(4,\)}, only in the config: "
     r"{'loss_a.bias': \(5,\)}; resume with the `distill`"),
    (lambda state: state['networks'].update(mean={}),
     r"contains the networks \['mean', 'partner'\] beside the student, but the config has "
     r"\['partner'\]"),
    (lambda state: state.pop('losses'), 'has other losses with layers or memory than the config'),
    (lambda state: state.update(regions=dict(a=dict(weight=torch.ones(1)))),
     'has other regions than the config'),
])
def test_the_state_of_another_distillation_is_refused(change, message):
    _, side = build()
    before, state = side.state_dict(), side.state_dict()
    change(state)
    with pytest.raises(ValueError, match=message):
        side.load_state_dict(state)
    for name, value in side.state_dict()['connectors']['loss_b'].items():
        assert torch.equal(value, before['connectors']['loss_b'][name])


def test_side_modules_move_and_are_shared_by_copies():
    _, side = build()
    assert copy.deepcopy(dict(side=side))['side'] is side
    side._apply(lambda one: one.to('meta'))
    moved = [*side.parameters(), side.of('losses')['loss_b'].bank.memory,
             *side.of('networks')['teacher'].model.parameters()]
    assert all(one.device.type == 'meta' for one in moved)
    assert {one.dtype for one in moved} == {torch.float64}


def test_single_process_exchanges_nothing():
    _, side = build()
    x = torch.ones((), requires_grad=True)
    assert side.anchor(x) is x
    side.exchange()
    side.start_from_rank_0()
    assert all(one.grad is None for one in side.parameters())


def test_parameters_join_the_optimizer_in_order():
    from types import SimpleNamespace

    from mmengine.config import Config
    from mmengine.optim import build_optim_wrapper
    student, side = build()
    config = dict(optimizer=dict(type='SGD', lr=0.1, weight_decay=0.01), paramwise_cfg=dict(
        bias_decay_mult=0.))
    runner = SimpleNamespace(cfg=Config(dict(optim_wrapper=config)), param_schedulers=[],
                             optim_wrapper=build_optim_wrapper(student, copy.deepcopy(config)))
    for _ in range(2):  # the second call adds nothing
        side.join(runner)
    groups = runner.optim_wrapper.optimizer.param_groups
    held = [id(one) for group in groups for one in group['params']]
    assert len(held) == len(set(held)) == 2 + len(side.parameters())
    names = {id(one): name for name, one in side.named_parameters()}
    joined = [names[id(one)] for group in groups if group['weight_decay'] for one in group['params']
              if id(one) in names]
    # `paramwise_cfg` applies to a partner's bias, not to connectors and losses.
    assert joined == [name for name in names.values() if name != 'networks.partner.2.bias']


def test_a_buffer_of_a_loss_is_saved_and_begins_equal_in_all_processes():
    """As docs/your_own.md says, of a buffer that is no bank."""
    class Running(DistillLoss):
        def __init__(self):
            super().__init__()
            self.register_buffer('mean', torch.zeros(2))

        def compare(self, student, teacher):
            self.mean.copy_(teacher.mean((0, 2, 3)))
            return (student - self.mean[:, None, None]).square().mean()

    def side():
        loss = Running()
        assert loss.is_trained
        return loss, SideModules(dict(losses=dict(loss_neck_running=nn.ModuleList([loss]))))

    (loss, saved), (resumed, other) = side(), side()
    loss(torch.zeros(1, 2, 3, 3), torch.full((1, 2, 3, 3), 5.))
    assert any(one is loss.mean for one in saved.tensors())  # sent by the first process
    other.load_state_dict(copy.deepcopy(saved.state_dict()))
    assert resumed.mean.tolist() == [5, 5]
