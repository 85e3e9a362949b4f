"""CIRKD compared with loops and the authors' numbers; its banks, and several processes."""
import copy
import math

import pytest
import torch
from support.authors import cases
from support.processes import in_processes
from test_memory import NoWait
from torch.utils._python_dispatch import TorchDispatchMode

from mmkd.core.processes import alone
from mmkd.losses import METHODS, Bank, CIRKDLoss
from mmkd.losses.cirkd import chosen, rows_of
from mmkd.losses.fast import pairwise
from mmkd.losses.fast.pairwise import similarity_divergence

SMALL = dict(pixels=12, regions=6, pixel_keys=5, region_keys=2, stored=4)


def some(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(*shape, classes=3, seed=0):
    return torch.randint(-1, classes, shape, generator=torch.Generator().manual_seed(seed))


def made(student=4, teacher=6, classes=3, **settings):
    torch.manual_seed(0)
    loss = CIRKDLoss(**dict(SMALL, **settings))
    loss.setup(student, teacher, num_classes=classes)
    return loss.double()


def unit(vector):
    length = math.sqrt(sum(float(one)**2 for one in vector))
    return [float(one) / length for one in vector]


def soft(vector, keys, tau):
    powers = [math.exp(sum(a * b for a, b in zip(vector, key)) / tau) for key in keys]
    return [one / sum(powers) for one in powers]


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q))


def pixels_of(image):
    return [unit(column) for column in image.flatten(1).T]


# --- the formulas, in loops ---------------------------------------------------------------------


def test_every_ordered_pair_of_images():
    s, t = some(3, 4, 2, 2), some(3, 5, 2, 2, seed=1)
    pairs = []
    for i in range(3):
        for j in range(3):
            own, other = ([soft(pixel, pixels_of(side[j]), 0.5) for pixel in pixels_of(side[i])]
                          for side in (s, t))
            pairs.append(sum(kl(p, q) for p, q in zip(other, own)) / 4)
    parts = CIRKDLoss(tau=0.5, lambda_minibatch=2., lambda_pixel=0, lambda_region=0)(
        s, t, label_map=labels(3, 8, 8), iteration=0)
    assert set(parts) == {'minibatch'}
    assert parts['minibatch'].item() == pytest.approx(2 * sum(pairs) / 9, rel=1e-12)


def test_past_pixels_and_regions(monkeypatch):
    """Positions without a label are ignored. Labels are reduced to the nearest pixels."""
    s, t, truth = some(2, 4, 2, 3), some(2, 6, 2, 3, seed=1), labels(2, 4, 9)
    loss = made(lambda_pixel=0.5, lambda_region=0.25, tau=0.3)
    keys = dict(pixel=rows_of(some(6, 6, seed=2)), region=rows_of(some(3, 6, seed=3)))
    monkeypatch.setattr(loss, 'keys', lambda name, generator: keys[name])
    projected = loss.project(s).detach()
    parts = loss(s, t, label_map=truth, iteration=0)
    for name, weight in (('pixel', 0.5), ('region', 0.25)):
        found = [kl(soft(b, keys[name].tolist(), 0.3), soft(a, keys[name].tolist(), 0.3))
                 for n in range(2) for place, (a, b) in enumerate(
                     zip(pixels_of(projected[n]), pixels_of(t[n])))
                 if truth[n, 2 * (place // 3), 3 * (place % 3)] >= 0]
        assert 0 < len(found) < 12
        assert parts[name].item() == pytest.approx(weight * sum(found) / len(found), rel=1e-12)


@pytest.mark.parametrize('case', cases('cirkd'))
def test_the_authors_numbers(case, monkeypatch):
    settings, inputs, outputs = case
    s = inputs['student'].requires_grad_()
    if 'minibatch' in outputs:
        parts = CIRKDLoss(**settings, lambda_pixel=0, lambda_region=0)(
            s, inputs['teacher'], label_map=None or labels(len(s), 4, 4), iteration=0)
    else:
        loss = made(lambda_pixel=1., lambda_region=1., lambda_minibatch=0, stored=6,
                    saved='float32', **settings)
        with torch.no_grad():
            for own, theirs in zip((loss.project[0].weight, loss.project[1].weight,
                                    loss.project[1].bias, loss.project[3].weight),
                                   inputs['weights']):
                own.copy_(theirs)
        monkeypatch.setattr(loss, 'keys', lambda name, generator: inputs[f'{name}_keys'])
        parts = loss(s, inputs['teacher'], label_map=inputs['label_map'], iteration=0)
    for name in parts:
        torch.testing.assert_close(parts[name], outputs[name], rtol=1e-9, atol=0)
    sum(parts.values()).backward()
    torch.testing.assert_close(s.grad, outputs['gradient'], rtol=1e-8, atol=1e-10)
    if 'pixel' in parts:
        for one, theirs in zip(loss.parameters(), outputs['weights']):
            torch.testing.assert_close(one.grad, theirs, rtol=1e-7, atol=1e-10)
        for label in range(3):
            torch.testing.assert_close(loss.region_bank.read(label)[0], outputs['regions'][label])
        for label in (1, 2):  # the order may differ
            own, theirs = ([sorted(rows.tolist()) for rows in (
                loss.pixel_bank.read(label), outputs['pixels'][label - 1])])
            torch.testing.assert_close(torch.tensor(own), torch.tensor(theirs))


@pytest.mark.parametrize('weight', [False, True])
@pytest.mark.parametrize('chunk', [1, 40, 10**6])
def test_value_and_gradient_in_chunks(monkeypatch, weight, chunk):
    monkeypatch.setattr(pairwise, 'CHUNK', chunk)
    s, t, keys, other = some(7, 3), some(7, 5, seed=1), some(6, 3, seed=2), some(6, 5, seed=3)
    w = some(7, seed=4).relu() if weight else None
    s.requires_grad_(), keys.requires_grad_()
    log_p, log_q = ((a @ b.T / 0.4).unflatten(1, (2, 3)).log_softmax(2)
                    for a, b in ((t, other), (s, keys)))
    rows = (log_p.exp() * (log_p - log_q)).sum((1, 2)) / 2
    expected = rows.mean() if w is None else (rows * w).sum() / w.sum()
    value = similarity_divergence(s, t, keys, other, 0.4, w, 2)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    for found, one in zip(torch.autograd.grad(3 * value, (s, keys)),
                          torch.autograd.grad(3 * expected, (s, keys))):
        torch.testing.assert_close(found, one, rtol=1e-10, atol=1e-14)
    same = similarity_divergence(s, t, s, t, 0.4)  # rows that are also the keys
    log_p, log_q = ((a @ a.T / 0.4).log_softmax(1) for a in (t, s))
    expected = (log_p.exp() * (log_p - log_q)).sum(1).mean()
    torch.testing.assert_close(torch.autograd.grad(same, s), torch.autograd.grad(expected, s),
                               rtol=1e-10, atol=1e-14)


# --- cost ---------------------------------------------------------------------------------------


class Largest(TorchDispatchMode):
    """Records the number of elements of the largest tensor."""
    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for one in found if isinstance(found, (list, tuple)) else [found]:
            if isinstance(one, torch.Tensor):
                self.numel = max(self.numel, one.numel())
        return found


def test_never_all_similarities_at_once(monkeypatch):
    monkeypatch.setattr(pairwise, 'CHUNK', 2000)
    loss, s, t = made(pixel_keys=600), some(2, 4, 16, 16).requires_grad_(), some(2, 6, 16, 16)
    with Largest() as largest:
        sum(loss(s, t, label_map=labels(2, 16, 16), iteration=0).values()).backward()
    assert largest.numel <= 2 * 6 * 16 * 16  # more than 2000 similarities per row, or the features
    assert 40 * largest.numel < (2 * 16 * 16)**2


def test_no_wait_for_a_gpu():
    loss, s, t = made(), some(2, 4, 3, 3).requires_grad_(), some(2, 6, 3, 3)
    truth = labels(2, 6, 6)
    with NoWait():
        loss(s, t, label_map=truth, iteration=0)


# --- banks --------------------------------------------------------------------------------------


def test_pixels_are_chosen_at_random_of_each_class_and_image():
    truth = labels(3, 30, classes=4)
    truth[0] = 2
    seen = set()
    for seed in range(20):
        index, of = chosen(truth, 3, 4, torch.Generator().manual_seed(seed))
        assert index.shape == of.shape == (3 * 3 * 4, )
        for image in range(3):
            for label in range(3):
                own = index[of == label]
                own = own[own // 30 == image].tolist()
                assert len(set(own)) == len(own) == min(4, int((truth[image] == label).sum()))
                assert all(truth.flatten()[one] == label for one in own)
        seen |= set(index[of >= 0].tolist())
    is_known = (truth.flatten() >= 0) & (truth.flatten() < 3)
    assert len(seen) > 0.8 * is_known.sum()  # all pixels are drawn with the same probability
    assert all(is_known[one] for one in seen)


def test_the_batch_is_stored_before_it_is_compared():
    """As in the authors' code. The bank stores the teacher's features, normalised to length 1."""
    loss, t = made(saved='float32'), some(2, 6, 2, 2)
    truth = torch.tensor([[[0, 0], [1, -1]], [[1, 1], [1, 1]]])
    loss(some(2, 4, 2, 2), t, label_map=truth, iteration=0)
    rows = rows_of(t)
    assert [len(loss.pixel_bank.read(label)) for label in range(3)] == [2, 5, 0]
    torch.testing.assert_close(loss.pixel_bank.read(0).sort(0)[0], rows[:2].sort(0)[0])
    torch.testing.assert_close(loss.region_bank.read(0)[0], rows_of((rows[0] + rows[1])[None])[0])
    torch.testing.assert_close(loss.region_bank.read(1), torch.stack(
        [rows[2], rows_of(rows[4:].sum(0)[None])[0]]))


def test_keys_are_balanced_over_classes():
    loss = made(classes=2, pixel_keys=7, pixels=5)
    loss.pixel_bank.push(torch.ones(5, 6), torch.zeros(5).long())

    def keys(seed):
        return loss.keys('pixel', torch.Generator().manual_seed(seed))

    found = keys(0)  # 7 // 2 + 1 of each class
    assert found.shape == (8, 6)
    assert torch.equal(found[:4], torch.ones(4, 6).to(found))
    torch.testing.assert_close(found[4:].norm(dim=1), torch.ones(4).to(found))
    assert torch.equal(found, keys(0))
    assert not torch.equal(found[4:], keys(1)[4:])
    every = made(classes=2, pixel_keys=99, pixels=5).keys('pixel', torch.Generator())
    assert every.shape == (10, 6)  # no slot occurs twice


def test_random_numbers_are_its_own_and_those_of_the_iteration():
    def values(iteration):
        torch.manual_seed(5)
        before = torch.get_rng_state()
        found = made().train()
        torch.manual_seed(5)
        parts = found(some(2, 4, 3, 3), some(2, 6, 3, 3, seed=1), label_map=labels(2, 3, 3),
                      iteration=iteration)
        assert torch.equal(torch.get_rng_state(), before)
        return {name: value.item() for name, value in parts.items()}

    first, other = values(3), values(4)
    assert first == values(3)
    assert first['minibatch'] == other['minibatch']
    assert all(first[name] != other[name] for name in ('pixel', 'region'))


def test_a_resumed_run_reads_the_same_rows():
    loss, again = made(), made()
    loss(some(2, 4, 3, 3), some(2, 6, 3, 3), label_map=labels(2, 6, 6), iteration=0)
    state = copy.deepcopy(loss.state_dict())
    assert state['pixel_bank.memory'].dtype is torch.float16
    again.load_state_dict(state)
    inputs = some(2, 4, 3, 3, seed=2), some(2, 6, 3, 3, seed=3)
    one, other = (x(*inputs, label_map=labels(2, 6, 6), iteration=1) for x in (loss, again))
    assert one == other
    assert not any('bank' in name for name in made(saved=False).state_dict())


# --- gradients, precision, limits ---------------------------------------------------------------


def test_feature_norms_do_not_matter():
    s, t, truth = some(2, 4, 3, 3), some(2, 6, 3, 3, seed=1), labels(2, 3, 3)
    scale = some(2, 1, 3, 3, seed=2).abs() + 0.1
    parts = made(lambda_pixel=0, lambda_region=0)(s, t, label_map=truth, iteration=0)
    other = made(lambda_pixel=0, lambda_region=0)(scale * s, t / scale, label_map=truth,
                                                  iteration=0)
    torch.testing.assert_close(parts, other)
    rotation = torch.linalg.qr(some(6, 6))[0]
    turned = torch.einsum('cd,ndhw->nchw', rotation, t)
    zero = CIRKDLoss(lambda_pixel=0, lambda_region=0)(turned, t, label_map=truth, iteration=0)
    assert zero['minibatch'].item() == pytest.approx(0, abs=1e-12)


def test_the_teacher_has_no_gradient_and_the_layers_have():
    loss, s, t = made(), some(2, 4, 3, 3).requires_grad_(), some(2, 6, 3, 3).requires_grad_()
    sum(loss(s, t, label_map=labels(2, 3, 3), iteration=0).values()).backward()
    assert t.grad is None
    assert s.grad.abs().sum() > 0
    assert all(one.grad.abs().sum() > 0 for one in loss.parameters())


def test_half_precision_and_autocast():
    s, t = (one.half().requires_grad_() for one in (some(2, 4, 4, 4), some(2, 6, 4, 4)))
    loss = made().float()
    with torch.autocast('cpu', torch.bfloat16):
        parts = loss(s, t, label_map=labels(2, 4, 4), iteration=0)
    exact = made()(s.double(), t.double(), label_map=labels(2, 4, 4), iteration=0)
    for name, value in parts.items():
        assert value.dtype is torch.float32
        assert value.item() == pytest.approx(exact[name].item(), rel=1e-3)
    sum(parts.values()).backward()
    assert s.grad.dtype is torch.float16


@pytest.mark.parametrize('shape', [(0, 3, 3), (2, 0, 3)])
def test_without_positions_it_is_zero_and_in_the_graph(shape):
    n, h, w = shape
    loss, s = made(), torch.zeros(n, 4, h, w).double().requires_grad_()
    parts = loss(s, torch.zeros(n, 6, h, w).double(), label_map=labels(n, 3, 3), iteration=0)
    assert [value.item() for value in parts.values()] == [0, 0, 0]
    sum(parts.values()).backward()
    assert not len(loss.pixel_bank.read())


def test_without_labels_the_memory_is_not_compared():
    loss, s = made(), some(1, 4, 3, 3).requires_grad_()
    parts = loss(s, some(1, 6, 3, 3), label_map=torch.full((1, 3, 3), -1), iteration=0)
    assert (parts['pixel'].item(), parts['region'].item()) == (0, 0)
    sum(parts.values()).backward()
    assert s.grad.isfinite().all()


def test_pooled_mini_batch():
    s, t, truth = some(2, 4, 5, 5), some(2, 6, 5, 5, seed=1), labels(2, 5, 5)
    loss = CIRKDLoss(lambda_pixel=0, lambda_region=0, pool=2)
    pooled = [torch.nn.functional.avg_pool2d(one, 2, ceil_mode=True) for one in (s, t)]
    torch.testing.assert_close(
        loss(s, t, label_map=truth, iteration=0),
        CIRKDLoss(lambda_pixel=0, lambda_region=0)(*pooled, label_map=truth, iteration=0))


def test_refusals():
    for settings, message in ((dict(tau=0), '`tau` must be greater than 0'),
                              (dict(lambda_pixel=-1), '`lambda_pixel` must be 0'),
                              (dict(stored=0), '`stored` must be 1 or more')):
        with pytest.raises(ValueError, match=message):
            CIRKDLoss(**settings)
    with pytest.raises(ValueError, match=r'compares maps \(N, C, H, W\), but got \(2, 4\)'):
        made()(some(2, 4), some(2, 6), label_map=labels(2, 3, 3), iteration=0)


def test_the_authors_values():
    loss = CIRKDLoss()
    assert (loss.tau, loss.lambdas) == (0.1, dict(minibatch=1., pixel=0.1, region=0.1))
    assert loss.sizes == dict(pixels=20000, regions=2000, pixel_keys=4096, region_keys=1024,
                              stored=16, pool=1)
    first, kd = METHODS['cirkd'].entries('segmentor')
    assert first['on'] == 'features'
    assert kd == dict(type='mmkd.KDLoss', on='cls')


# --- several processes --------------------------------------------------------------------------


def batch():
    return some(4, 4, 3, 3), some(4, 6, 3, 3, seed=1), labels(4, 3, 3)


def work(rank, world):
    loss = made(stored=9, saved='float32')  # with 9, all pixels are stored
    s, t, truth = (one[2 * rank:2 * rank + 2] for one in batch())
    loss(s, t, label_map=truth, iteration=0)
    loss(s[:0], t[:0], label_map=truth[:0], iteration=1) if rank else \
        loss(s, t, label_map=truth, iteration=1)
    with alone():
        copy.deepcopy(loss)(s, t, label_map=truth, iteration=2)
    return dict(loss.pixel_bank.state_dict(prefix='pixel.'),
                **loss.region_bank.state_dict(prefix='region.'))


def test_two_processes_store_the_same_as_one(tmp_path):
    found = in_processes(work, 2, tmp_path)
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]), name
    whole = made(stored=9, saved='float32')
    s, t, truth = batch()
    whole(s, t, label_map=truth, iteration=0)
    whole(s[:2], t[:2], label_map=truth[:2], iteration=1)
    banks = {'pixel': Bank(12, 6, classes=3), 'region': Bank(6, 6, classes=3)}
    for name, bank in banks.items():
        own = whole.pixel_bank if name == 'pixel' else whole.region_bank
        bank.load_state_dict({key.partition('.')[2]: value.float() if 'memory' in key else value
                              for key, value in found[0].items() if key.startswith(name)})
        for label in range(3):
            assert len(bank.read(label)) == len(own.read(label))
            if name == 'region':
                torch.testing.assert_close(bank.read(label), own.read(label).float())


def test_it_communicates_only_for_its_memory():
    assert CIRKDLoss().communicates
    assert CIRKDLoss(lambda_pixel=0).communicates
    assert not CIRKDLoss(lambda_pixel=0, lambda_region=0).communicates
