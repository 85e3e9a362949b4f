"""Banks of past rows and rows of other processes, compared with lists and with one process."""
import copy
import doctest
import importlib
import io
from collections import defaultdict

import pytest
import torch
from support.processes import in_processes
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from mmkd.core.processes import all_rows, alone, world_size
from mmkd.losses import Bank, DistillLoss, gathered
from mmkd.losses.trial import is_constant

NAN = float('nan')


def row(*numbers):
    """Return rows (M, 2) that contain each number twice."""
    return torch.tensor(numbers, dtype=torch.float32)[:, None].expand(-1, 2)


def numbers(rows):
    assert torch.equal(rows, rows[:, :1].expand_as(rows))
    return rows[:, 0].tolist()


@pytest.mark.parametrize('name', ['losses.memory', 'losses.across', 'core.processes'])
def test_examples(name):
    found = doctest.testmod(importlib.import_module(f'mmkd.{name}'))
    assert found.attempted
    assert not found.failed


# --- one queue ----------------------------------------------------------------------------------


def test_first_in_first_out():
    bank = Bank(3, 2)
    assert bank.read().shape == (0, 2)
    for pushed, kept in (((1, 2), [1, 2]), ((), [1, 2]), ((3, 4), [2, 3, 4]), ((5, ), [3, 4, 5]),
                         ((6, 7, 8, 9, 10), [8, 9, 10]), ((11, 12, 13), [11, 12, 13])):
        bank.push(row(*pushed))
        assert numbers(bank.read()) == kept
        rows, is_filled = bank.table()
        assert rows.shape == (3, 2)
        assert sorted(numbers(rows[is_filled])) == kept
        assert not rows[~is_filled].any()


def test_rows_that_are_not_finite_leave_no_trace():
    bank, other = Bank(3, 2), Bank(3, 2)
    for _ in range(3):
        bank.push(torch.tensor([[NAN, 1.], [2., 2.], [1., -float('inf')], [3., 3.]]))
        bank.push(row(NAN))
        other.push(row(2, 3))
        for one, value in bank.state_dict().items():
            assert torch.equal(value, other.state_dict()[one]), one


def test_what_is_read_is_a_constant_copy():
    bank = Bank(2, 2)
    x = row(1, 2).clone().requires_grad_()
    bank.push(x * 1)
    read, (table, _), (found, _) = bank.read(), bank.table(), bank.read_by_ids([0])
    assert not any(one.requires_grad for one in (read, table, found))
    loss = (x @ read.T + x @ table.T).sum()
    bank.push(row(3, 4))
    loss.backward()  # tensors saved by autograd were not changed in place
    assert numbers(read) == [1, 2]


def test_what_does_not_fit_is_refused():
    bank, classed = Bank(3, 2), Bank(3, 2, classes=4)
    for call, message in (
            (lambda: bank.push(torch.ones(2, 3)), r'keeps rows \(M, 2\), but got \(2, 3\)'),
            (lambda: bank.push(row(1), torch.zeros(1)), 'built without `classes`, but got labels'),
            (lambda: classed.push(row(1)), 'built for 4 classes, but got no labels'),
            (lambda: classed.push(row(1), torch.zeros(1)), '`labels` must be whole numbers'),
            (lambda: bank.push(row(1), sample_ids=[1, 2]), r'of the 1 rows, but got \(2,\)'),
            (lambda: bank.read(0), 'has no classes, but `label` is 0'),
            (lambda: classed.read(4), 'has 4 classes, but `label` is 4'),
            (lambda: Bank(0, 2), '`size` must be 1 or more'),
            (lambda: Bank(3, 2, per_class=2), 'the bank has no `classes`'),
            (lambda: Bank(3, 2, saved='half'), "`saved` must be 'float32', 'float16' or False"),
            (lambda: Bank(3, 2, saved=True), '`saved` must be')):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match=r'`channels` must be a whole number, but got 2\.0'):
        Bank(3, 2.)


# --- by class and by sample ---------------------------------------------------------------------


@pytest.mark.parametrize('per_class', [None, 2])
def test_each_class_has_its_queue(per_class):
    bank, queues = Bank(3, 2, classes=3, per_class=per_class), defaultdict(list)
    generator, number = torch.Generator().manual_seed(0), 0
    for count in (2, 0, 7, 1, 12, 5, 5):
        labels = torch.randint(-1, 5, (count, ), generator=generator)
        features = row(*range(number, number + count)) if count else torch.zeros(0, 2)
        bank.push(features, labels)
        for label in range(3):
            new = [number + i for i, one in enumerate(labels.tolist()) if one == label]
            queues[label] = (queues[label] + new[:per_class])[-3:]
            assert numbers(bank.read(label)) == queues[label]
        number += count
        assert numbers(bank.read()) == sorted(
            one for queue in queues.values() for one in queue)
        rows, is_filled = bank.table()
        assert rows.shape == (3, 3, 2)
        assert [sorted(numbers(one[flags])) for one, flags in zip(rows, is_filled)] == [
            queues[label] for label in range(3)]
        some, is_some = bank.table(torch.tensor([2, 0]))
        assert torch.equal(some, rows[:, [2, 0]])
        assert torch.equal(is_some, is_filled[:, [2, 0]])
    assert number == 32


@pytest.mark.parametrize('classes', [None, 2])
def test_the_newest_row_of_a_sample(classes):
    bank = Bank(4, 2, classes=classes)

    def push(features, labels, ids):
        bank.push(features, None if classes is None else torch.tensor(labels), ids)

    push(row(1, 2, 3), [0, 1, 1], [5, 6, 5])
    push(row(4), [0], None)
    rows, is_found = bank.read_by_ids(torch.tensor([5, 6, 7, -1, 5]))
    assert is_found.tolist() == [True, True, False, False, True]
    assert numbers(rows) == [3, 2, 0, 0, 3]
    push(row(8, 9), [0, 0], [6, 9])
    rows, is_found = bank.read_by_ids([6, 9, 5])
    assert numbers(rows) == [8, 9, 3]
    assert bank.read_by_ids([])[0].shape == (0, 2)


# --- checkpoints, precision ---------------------------------------------------------------------


class Remembering(DistillLoss):
    """Pulls the student towards stored rows of the teacher."""
    communicates = True

    def __init__(self, **settings):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.bank = Bank(5, 2, **settings)

    def compare(self, student, teacher, weight):
        self.bank.push(teacher)
        rows = gathered(self.layer.to(student)(student))
        return (rows[:, None] - self.bank.read().to(rows)).square().mean()


def trained(loss, optimizer, steps):
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        student, teacher = torch.randn(2, 3, 2, generator=generator)
        optimizer.zero_grad()
        loss(student, teacher).backward()
        optimizer.step()


@pytest.mark.parametrize('saved', ['float32', 'float16', False])
def test_resumed_run_continues_at_the_same_slot(saved):
    torch.manual_seed(0)
    loss = Remembering(saved=saved)
    optimizer = torch.optim.SGD(loss.parameters(), 0.1, momentum=0.9)
    trained(loss, optimizer, range(2))
    file = io.BytesIO()
    torch.save([loss.state_dict(), optimizer.state_dict()], file)
    file.seek(0)
    resumed = Remembering(saved=saved)
    again = torch.optim.SGD(resumed.parameters(), 0.1, momentum=0.9)
    for one, state in zip((resumed, again), torch.load(file)):
        one.load_state_dict(state)
    assert resumed.bank.memory.dtype is torch.float32
    if saved is False:
        assert not len(resumed.bank.read())
        assert not any('bank' in name for name in loss.state_dict())
        return
    assert torch.equal(resumed.bank.read(), loss.bank.read())
    trained(loss, optimizer, range(2, 4))
    trained(resumed, again, range(2, 4))
    for name, value in loss.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_size_in_a_checkpoint():
    sizes = {saved: sum(one.numel() * one.element_size()
                        for one in Bank(99, 256, saved=saved).state_dict().values())
             for saved in ('float32', 'float16', False)}
    beside = 100 * 2 * 8 + 8  # two integers per row
    assert sizes == {'float32': 100 * 256 * 4 + beside, 'float16': 100 * 256 * 2 + beside, False: 0}


def test_large_numbers_stay_finite_in_half_precision():
    bank, other = Bank(1, 1, saved='float16'), Bank(1, 1, saved='float16')
    bank.push(torch.tensor([[1e6], [float('inf')]]))
    other.load_state_dict(bank.state_dict())
    assert bank.read().tolist() == other.read().tolist() == [[65504]]


def test_a_full_bank_that_loads_less_is_not_full():
    bank, other = Bank(2, 1), Bank(2, 1)
    bank.push(torch.ones(2, 1))
    assert len(bank.read()) == 2
    bank.load_state_dict(other.state_dict())
    assert not len(bank.read())


def test_precision_is_never_lost():
    bank = Bank(2, 1)
    bank.push(torch.tensor([[1 / 3]], dtype=torch.float64))
    assert bank.half().read().item() == pytest.approx(1 / 3, rel=1e-7)
    assert bank.read().dtype is torch.float32
    assert bank.counts.dtype is torch.int64
    bank.to('meta')
    assert bank.memory.device.type == 'meta'
    bank = Bank(2, 1).double()
    bank.push(torch.tensor([[1 / 3]], dtype=torch.float64))
    assert bank.read().item() == 1 / 3
    bank = Bank(2, 1, saved='float16')
    bank.load_state_dict(bank.state_dict(), assign=True)
    assert bank.memory.dtype is torch.float32


class NoWait(torch.utils._python_dispatch.TorchDispatchMode):
    """Fails for operations whose result shape or Python value depends on the data."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert not any(name in str(func) for name in (
            '_local_scalar_dense', 'nonzero', 'masked_select', 'unique', 'bincount', 'is_nonzero',
            'equal.default', 'repeat_interleave')), func
        if 'index_copy' in str(func):  # with several rows for one slot, a GPU may store any of them
            slots = [one for one in args[2].tolist() if one < len(args[0]) - 1]
            assert len(slots) == len(set(slots))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('classes', [None, 3])
def test_no_wait_for_a_gpu(classes):
    bank = Bank(4, 2, classes=classes, per_class=classes and 5)
    features, ids = row(*range(40)).clone(), torch.arange(40)
    labels = None if classes is None else ids % 4
    with NoWait():
        bank.push(features, labels, ids)
        bank.table()
        bank.read_by_ids(ids)
    assert len(bank.read()) == 4 * (classes or 1)
    with NoWait():
        bank.read()


# --- in a trial ---------------------------------------------------------------------------------


def test_trial_does_not_communicate_or_change_state(monkeypatch):
    def all_gather(*args):
        raise RuntimeError('nobody answers')

    for name, value in dict(is_initialized=lambda: True, get_world_size=lambda: 2,
                            get_rank=lambda: 1, all_gather=all_gather).items():
        monkeypatch.setattr(f'torch.distributed.{name}', value)
    tried = []

    class Watched(Remembering):

        def compare(self, *args):
            value = super().compare(*args)
            tried.append(self.bank)  # errors in a trial are not raised
            return value

    loss = Watched()
    before = copy.deepcopy(loss.state_dict())
    assert not is_constant(loss, [(4, 2)])
    assert len(tried[-1].read()) == 4
    for name, value in loss.state_dict().items():
        assert torch.equal(value, before[name]), name
    with alone():
        assert world_size() == 1
    assert world_size() == 2
    with pytest.raises(RuntimeError, match='nobody answers'):
        gathered(row(1))


def test_one_process_is_the_identity():
    x = row(1, 2)
    assert gathered(x) is x
    assert all_rows(x, note=3).counts == [2]
    assert all_rows(x, note=3).notes == [3]


# --- several processes --------------------------------------------------------------------------

BATCHES = {2: dict(even=(3, 3), uneven=(5, 1), nothing=(0, 6)),
           3: dict(even=(2, 2, 2), uneven=(1, 0, 5), nothing=(0, 6, 0))}
"""Numbers of images per process, of six images."""


def images():
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def model():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()


def relations(own, everyone):
    """The sum of the relations between own rows and all rows."""
    return (own[:, None] - everyone).square().sum(-1).add(1).log().sum()


def one_loss(own, count):
    """A loss that is the same in all processes."""
    everyone = gathered(own)
    return relations(everyone, everyone) / count**2


def own_loss(own, count):
    """The mean over the process's own rows, relative to all rows."""
    return relations(own, gathered(own)) / (len(own) * count)


def value_and_gradients(module, rows, loss):
    module.zero_grad()
    value = loss(module(rows), 6)
    value.backward()
    if distributed.is_initialized() and not isinstance(module, DistributedDataParallel):
        for parameter in module.parameters():
            distributed.all_reduce(parameter.grad)
            parameter.grad /= distributed.get_world_size()
    return [value.detach(), *(p.grad.clone() for p in module.parameters())]


def part_of(rank, sizes):
    return slice(sum(sizes[:rank]), sum(sizes[:rank + 1]))


def work(rank, world):
    found = {}
    # DistributedDataParallel imports torch's compiler, which takes a second. With two processes,
    # gradients are averaged manually.
    wrapped = DistributedDataParallel(model()) if world == 3 else model()
    for name, sizes in BATCHES[world].items():
        rows = images()[part_of(rank, sizes)]
        found[name] = value_and_gradients(wrapped, rows, one_loss)
    found['own'] = value_and_gradients(wrapped, images()[part_of(rank, BATCHES[world]['even'])],
                                       own_loss)
    # A process whose rows have no gradient takes part in the exchange, too.
    rows = images()[:2].requires_grad_(rank == 0)
    (gathered(rows) * torch.arange(2. * world)[:, None] * (1 + rank)).sum().backward()
    found['constant'] = [rows.grad[:, 0] if rank == 0 else torch.zeros(2)]
    # Tensors without gradient, of other dtypes, with more dimensions.
    found['kinds'] = [gathered(torch.full((rank, 2), rank, dtype=dtype)) for dtype in (
        torch.bool, torch.bfloat16, torch.int64)] + [gathered(torch.zeros(rank, 0, 3))]
    found['refused'] = []
    for call in (lambda: gathered(torch.zeros(1, 2 + rank)),
                 lambda: gathered(torch.zeros(1, 2, dtype=(torch.half, torch.float)[rank > 0])),
                 lambda: no_grad_in(rank, rank == 1)):
        try:
            call()
        except ValueError as error:
            found['refused'].append(str(error))
    bank, classed = Bank(4, 4), Bank(2, 4, classes=2, per_class=1)
    for sizes in BATCHES[world].values():
        part = part_of(rank, sizes)
        features = images()[part].clone()
        features[:1, 0] = NAN if rank == world - 1 else 1.
        bank.push(features, sample_ids=torch.arange(6)[part])
        classed.push(features, torch.arange(6)[part] % 3)
    with alone():
        copy.deepcopy(bank).push(images()[rank:])
    found['bank'] = [*bank.state_dict().values(), bank.read()]
    found['classed'] = [*classed.state_dict().values(), classed.read(1)]
    return found


def no_grad_in(rank, flag):
    with torch.set_grad_enabled(not flag):
        gathered(torch.zeros(1, 2, requires_grad=True))


def check(folder, world):
    parts = in_processes(work, world, folder)
    whole = value_and_gradients(model(), images(), one_loss)
    for name in BATCHES[world]:
        for part in parts:
            for one, other in zip(part[name], whole):
                torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    own = value_and_gradients(model(), images(), own_loss)
    torch.testing.assert_close(sum(part['own'][0] for part in parts) / world, own[0], rtol=1e-9,
                               atol=0)
    for part in parts:
        for one, other in zip(part['own'][1:], own[1:]):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
        total = sum(range(1, world + 1))  # each process multiplies by 1 + its rank
        assert parts[0]['constant'][0].tolist() == [0, total]
        numbers = torch.tensor([number for number in range(world) for _ in range(number)])
        for one in part['kinds'][:-1]:
            assert torch.equal(one, numbers[:, None].expand(-1, 2).to(one.dtype))
        assert part['kinds'][-1].shape == (sum(range(world)), 0, 3)
        assert len(part['refused']) == 3
        assert 'without the first dimension' in part['refused'][0]
        assert 'inside `torch.no_grad()` in process 1, but process 0' in part['refused'][2]
        for kind in ('bank', 'classed'):  # equal in all processes
            for one, other in zip(part[kind], parts[0][kind]):
                assert torch.equal(one, other)
    # The banks equal those of one process that gets the rows of all, in the order of the ranks.
    bank, sizes = Bank(4, 4), list(BATCHES[world].values())
    classed = Bank(2, 4, classes=2)
    for counts in sizes:
        features = images().clone()
        for rank in range(world):
            if counts[rank]:
                features[part_of(rank, counts)][:1, 0] = NAN if rank == world - 1 else 1.
        bank.push(features, sample_ids=range(6))
        first = torch.cat([first_of_each(torch.arange(6)[part_of(rank, counts)] % 3,
                                         features[part_of(rank, counts)])
                           for rank in range(world)])
        classed.push(features, first)
    for kind, one in dict(bank=bank, classed=classed).items():
        for value, other in zip(one.state_dict().values(), parts[0][kind]):
            assert torch.equal(value, other)


def first_of_each(labels, features):
    """Return the labels of the first finite row of each class, and -1 for the other rows."""
    seen, found = set(), []
    for label, features_of_row in zip(labels.tolist(), features):
        is_first = label not in seen and features_of_row.isfinite().all()
        found.append(label if is_first else -1)
        seen |= {label} if is_first else set()
    return torch.tensor(found, dtype=torch.int64)


def test_two_processes_compare_as_one_with_the_whole_batch(tmp_path):
    check(tmp_path, 2)


@pytest.mark.slow
def test_three_processes_compare_as_one_with_the_whole_batch(tmp_path):
    check(tmp_path, 3)
