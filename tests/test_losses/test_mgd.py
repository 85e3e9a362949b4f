"""MGD compared with loops and the authors' numbers. Its random mask is repeated on resume."""
import itertools

import pytest
import torch
from support.authors import cases, renamed

from mmkd import MGDLoss
from mmkd.losses import METHODS, mgd


def some(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64,
                       generator=torch.Generator().manual_seed(seed))


def made(channels=4, **arguments):
    loss = MGDLoss(**arguments)
    loss.setup(channels, channels)
    return loss.double()


def convolved(x, weight, bias):
    """A 3x3 convolution of (C, H, W) in loops, with zero padding."""
    _, height, width = x.shape
    out = []
    for o, y, col in itertools.product(range(len(weight)), range(height), range(width)):
        value = bias[o]
        for c, dy, dx in itertools.product(range(len(x)), range(3), range(3)):
            if 0 <= y + dy - 1 < height and 0 <= col + dx - 1 < width:
                value = value + weight[o, c, dy, dx] * x[c, y + dy - 1, col + dx - 1]
        out.append(value)
    return torch.stack(out).view(len(weight), height, width)


@pytest.mark.parametrize('mask', ['positions', 'channels'])
def test_value_and_gradient_by_loops(monkeypatch, mask):
    loss = made(3, mask=mask, loss_weight=0.2)
    student, teacher = some(2, 3, 4, 3).requires_grad_(), some(2, 3, 4, 3, seed=1)
    kept = (some(*((2, 1, 4, 3) if mask == 'positions' else (2, 3, 1, 1)), seed=2) > 0).double()
    monkeypatch.setattr(mgd, '_kept', lambda shape, *rest: kept.reshape(shape))
    first, _, second = loss.generator
    expected = 0
    for n in range(2):
        masked = student[n] * kept[n]
        hidden = convolved(masked, first.weight, first.bias).clamp(min=0)
        found = convolved(hidden, second.weight, second.bias)
        for at in itertools.product(*map(range, found.shape)):
            expected = expected + 0.2 * (found[at] - teacher[(n, *at)])**2 / 2
    value = loss(student, teacher, iteration=0)
    torch.testing.assert_close(value, expected)
    inputs = [student, *loss.parameters()]
    for mine, wanted in zip(torch.autograd.grad(value, inputs),
                            torch.autograd.grad(expected, inputs)):
        assert wanted.abs().sum() > 0
        torch.testing.assert_close(mine, wanted)


@pytest.mark.parametrize('number', [0, 1])
def test_numbers_of_the_authors(monkeypatch, number):
    settings, given, outputs = cases('mgd')[number]
    loss = made(**settings)
    loss.load_state_dict(renamed(given['state'], {'generation.': 'generator.'}))
    # The authors' mask is 0 where the random number is above 1 - λ; for classification, below λ.
    drawn = given['drawn'] if settings['mask'] == 'channels' else 1 - given['drawn']
    monkeypatch.setattr(torch, 'rand', lambda shape, **more: drawn.reshape(shape))
    student = given['student'].requires_grad_()
    value = loss(student, given['teacher'], iteration=0)
    torch.testing.assert_close(value, outputs['value'], rtol=1e-10, atol=0)
    torch.testing.assert_close(torch.autograd.grad(value, student)[0], outputs['gradient'],
                               rtol=1e-9, atol=1e-12)


def masks(loss, shape=(2, 4, 40, 50), **named):
    """Return the mask of a call, read from the input of the generator."""
    seen = []
    loss.generator.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    one = torch.ones(*shape)
    loss(one, one, **{'iteration': 0, **named})
    return seen[0]


@pytest.mark.parametrize('fraction', [0., 0.25, 0.65, 1.])
def test_the_fraction_is_what_is_zeroed(fraction):
    loss = made(masked=fraction).float()
    found = masks(loss)
    assert set(found.unique().tolist()) <= {0., 1.}
    assert 1 - found.mean().item() == pytest.approx(fraction, abs=0.03)
    # the same for all channels of a position
    assert torch.equal(found, found[:, :1].expand_as(found))
    if 0 < fraction < 1:
        assert not torch.equal(found[0], found[1])
    by_channel = masks(made(100, masked=fraction, mask='channels').float(), (20, 100, 2, 2))
    assert torch.equal(by_channel, by_channel[..., :1, :1].expand_as(by_channel))
    assert 1 - by_channel.mean().item() == pytest.approx(fraction, abs=0.04)


def test_a_mask_depends_on_iteration_and_level_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    shared = [dict(iteration=i, level=level) for i in (0, 7) for level in (0, 1)]
    found = [masks(made().float(), **named) for named in shared]
    torch.manual_seed(0)
    again = [masks(made().float(), **named) for named in shared]
    assert all(torch.equal(a, b) for a, b in zip(found, again))
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(found, 2))
    torch.manual_seed(1)
    assert not torch.equal(masks(made().float(), **shared[0]), found[0])
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), before)
    loss = made().float()
    before = torch.get_rng_state()
    masks(loss)
    assert torch.equal(torch.get_rng_state(), before)  # the random state of the run does not change


def test_gradients_precision_and_empty_input():
    loss = made().float()
    student, teacher = some(2, 4, 5, 5).float(), some(2, 4, 5, 5, seed=1).float()
    student.requires_grad_(), teacher.requires_grad_()
    value = loss(student, teacher, iteration=0)
    value.backward()
    assert teacher.grad is None
    assert all(one.grad.abs().sum() > 0 for one in loss.parameters())
    half = loss(student.half(), teacher.half(), iteration=0)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, value, rtol=1e-3, atol=0)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        mixed = loss(student, teacher, iteration=0)
    assert mixed.dtype == torch.float32
    assert mixed != value  # under autocast, the layers run in low precision
    torch.testing.assert_close(mixed, value, rtol=0.02, atol=0)
    for empty in (torch.zeros(0, 4, 5, 5), torch.zeros(2, 4, 0, 5)):
        empty.requires_grad_()
        nothing = loss(empty, empty.detach(), iteration=0)
        assert nothing == 0
        nothing.backward()


@pytest.mark.parametrize(('arguments', 'error', 'message'), [
    (dict(loss_weight=-1), ValueError, '`loss_weight` must be 0 or more'),
    (dict(masked=1.5), ValueError, '`masked` must be between 0 and 1, but got 1.5; write'),
    (dict(masked='half'), TypeError, '`masked` must be a number'),
    (dict(mask='rows'), ValueError, "`mask` must be 'positions' or 'channels', but got 'rows'")])
def test_mistakes_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        MGDLoss(**arguments)
    with pytest.raises(ValueError, match=r"maps \(N, C, H, W\), but got \(2, 4\); compare 'neck'"):
        made()(some(2, 4), some(2, 4), iteration=0)


def test_the_values_of_the_authors_by_family():
    method = METHODS['mgd']
    dense, = method.entries('dense')
    assert dense == dict(type='mmkd.MGDLoss', on='neck')
    assert (MGDLoss().loss_weight, MGDLoss().masked) == (2e-5, 0.65)
    clip = {'optim_wrapper.clip_grad': dict(max_norm=35, norm_type=2)}
    assert method.around('dense') == {**clip, 'model.inherit': 'neck,head'}
    roi, = method.entries('roi')
    assert (roi['loss_weight'], roi['masked'], roi['levels']) == (5e-7, 0.45, [0, 1, 2, 3])
    assert method.around('roi') == clip
    assert method.entries('solo') == [dict(dense, levels=[0, 1, 2, 3])]
    assert method.around('solo') == method.around('dense')
    features, logits = method.entries('segmentor')
    assert (features['on'], features['levels'], features['masked']) == ('backbone', [-1], 0.75)
    assert (logits['tau'], logits['loss_weight']) == (4., 3.)
    assert method.around('segmentor') == {}
