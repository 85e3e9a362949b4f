"""DiffKD compared with the formula in steps and with the authors' numbers; its random noise."""
import itertools

import pytest
import torch
from support.authors import cases, renamed

from mmkd import DiffKDLogitLoss, DiffKDLoss
from mmkd.losses import METHODS, diffkd
from mmkd.losses.diffkd import Denoiser

NAMES = {'ae.encoder.': 'encode.', 'ae.decoder.0.': 'decode.', 'trans.': 'denoiser.project.',
         'model.pred.': 'denoiser.predict.', 'noise_adapter.feat.': 'denoiser.adapt.',
         'noise_adapter.pred.': 'denoiser.share.', 'proj.': 'denoiser.finish.'}


def some(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64,
                       generator=torch.Generator().manual_seed(seed))


def made(student=4, teacher=8, kind=DiffKDLoss, **arguments):
    torch.manual_seed(0)
    loss = kind(**arguments)
    loss.setup(student, teacher)
    return loss.double()


def test_denoising_is_ddim_with_the_schedule_of_ddpm():
    """Each step predicts the clean features from x_t, then adds the noise of the next time."""
    torch.manual_seed(0)
    denoiser = Denoiser(4, 8, 5).double().eval()
    betas = [1e-4 + (0.02 - 1e-4) * i / 999 for i in range(1000)]
    kept = list(itertools.accumulate((1 - beta for beta in betas), lambda a, b: a * b))
    student, noise = some(2, 4, 3, 3), some(2, 8, 3, 3, seed=1)
    x = denoiser.project(student)
    share = denoiser.share(denoiser.adapt(x).mean((2, 3))).softmax(1)[:, 0]
    assert ((share > 0) & (share < 1)).all()
    x = share.view(-1, 1, 1, 1) * x + (1 - share.view(-1, 1, 1, 1)) * noise
    for time, then in ((400, 300), (300, 200), (200, 100), (100, 0), (0, None)):
        found = denoiser.predict(x + denoiser.times.weight[time].view(1, -1, 1, 1))
        clean = (x - (1 - kept[time])**0.5 * found) / kept[time]**0.5
        after = 1. if then is None else kept[then]
        x = after**0.5 * clean + (1 - after)**0.5 * found
    torch.testing.assert_close(denoiser(student, noise), denoiser.finish(x))


def test_noise_is_learnt_from_the_teacher_alone():
    loss = made()
    student, teacher = some(2, 4, 3, 3).requires_grad_(), some(2, 8, 3, 3, seed=1)
    parts = loss(student, teacher, iteration=0)
    of = {part: {name.split('.')[0] + '.' + name.split('.')[1] for (name, _), one in zip(
        loss.named_parameters(), torch.autograd.grad(
            value, list(loss.parameters()), retain_graph=True, allow_unused=True))
        if one is not None} for part, value in parts.items()}
    assert of['reconstruction'] == {'encode.0', 'encode.1', 'decode.weight', 'decode.bias'}
    assert of['noise'] == {'denoiser.times', 'denoiser.predict'}
    assert of['denoised'] == {f'denoiser.{name}' for name in (
        'project', 'times', 'predict', 'adapt', 'share', 'finish')}
    reached = [torch.autograd.grad(value, student, retain_graph=True, allow_unused=True)[0]
               is not None for value in parts.values()]
    assert reached == [True, False, False]
    assert 'reconstruction' not in made(latent=0)(student, teacher, iteration=0)


@pytest.mark.parametrize('number', [0, 1])
def test_numbers_of_the_authors(monkeypatch, number):
    settings, given, outputs = cases('diffkd')[number]
    is_logits = settings['kind'] == 'logits'
    channels = given['student'].shape[1], given['teacher'].shape[1]
    loss = made(*channels, DiffKDLogitLoss) if is_logits else made(
        *channels, latent=settings['latent'])
    missing, unknown = loss.load_state_dict(renamed(given['state'], NAMES), strict=False)
    assert not unknown
    assert all('running' in name or 'num_batches' in name or name == 'denoiser.times.weight'
               for name in missing)
    rows = loss.denoiser.times.weight
    rows.data = torch.arange(rows.numel(), dtype=torch.float64).sin().view_as(rows)
    monkeypatch.setattr(diffkd, '_drawn', lambda like, *numbers: (
        given['start'], given['noise'], given['times']))
    student = given['student'].requires_grad_()
    parts = loss(student, given['teacher'], iteration=0)
    gradient, = torch.autograd.grad(parts['denoised'], student)
    for part, value in parts.items():  # the authors' schedule is float32
        torch.testing.assert_close(value, outputs[part], rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient, outputs['gradient'], rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize('kind', [DiffKDLoss, DiffKDLogitLoss])
def test_noise_depends_on_iteration_and_level_alone(kind):
    loss = made(8, 8, kind)
    student, teacher = some(2, 8, 3, 3), some(2, 8, 3, 3, seed=1)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    shared = [dict(iteration=i, level=level) for i in (0, 7) for level in (0, 1)]
    found = [loss(student, teacher, **one)['noise'].item() for one in shared]
    assert len(set(found)) == 4
    assert torch.equal(torch.get_rng_state(), before)  # the random state of the run does not change
    torch.rand(9)
    assert [loss(student, teacher, **one)['noise'].item() for one in shared] == found
    torch.manual_seed(1)
    assert loss(student, teacher, **shared[0])['noise'].item() != found[0]


def test_what_is_drawn():
    start, noise, times = diffkd._drawn(torch.zeros(1000, 2, 3, 3), 0, 0)
    for one in (start, noise):
        assert one.mean().item() == pytest.approx(0, abs=0.02)
        assert one.std().item() == pytest.approx(1, abs=0.02)
    assert not torch.equal(start, noise)
    assert times.min() < 10
    assert 990 < times.max() < 1000


@pytest.mark.parametrize(('kind', 'shape'), [
    (DiffKDLoss, (2, 8, 4, 4)), (DiffKDLogitLoss, (2, 8, 4, 4)), (DiffKDLogitLoss, (6, 8)),
    (DiffKDLogitLoss, (2, 8, 5))])
def test_shapes_precision_and_empty_input(kind, shape):
    loss = made(8, 8, kind).float()
    student, teacher = some(*shape).float().requires_grad_(), some(*shape, seed=1).float()
    expected = loss(student, teacher, iteration=0)
    assert all(one.dtype == torch.float32 and one > 0 for one in expected.values())
    half = loss(student.half(), teacher.half(), iteration=0)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        mixed = loss(student, teacher, iteration=0)
    for part, value in expected.items():
        assert half[part].dtype == mixed[part].dtype == torch.float32
        assert mixed[part] != value  # under autocast, the layers run in low precision
        torch.testing.assert_close(half[part], value, rtol=0.02, atol=0)
        torch.testing.assert_close(mixed[part], value, rtol=0.1, atol=0)
    one = loss(student[:1], teacher[:1], iteration=0)  # one row: no batch statistics
    assert all(value.isfinite() for value in one.values())
    sum(one.values()).backward()
    assert student.grad.isfinite().all()
    for size in ((0, *shape[1:]), (*shape[:-1], 0))[:len(shape) - 1]:
        empty = torch.zeros(size, requires_grad=True)
        nothing = loss(empty, empty.detach(), iteration=0)
        assert list(nothing) == list(loss(student, teacher, iteration=0))
        assert sum(nothing.values()) == 0
        sum(nothing.values()).backward()


def test_logits_are_weighed_and_activated_as_by_kd():
    loss = made(3, 3, DiffKDLogitLoss, use_sigmoid=True, tau=2.)
    student, teacher = some(2, 3, 4, 4), some(2, 3, 4, 4, seed=1)
    whole = loss(student, teacher, iteration=0)
    weight = torch.ones(2, 4, 4, dtype=torch.float64)
    same = loss(student, teacher, weight, iteration=0)
    torch.testing.assert_close(same['denoised'], whole['denoised'])
    weight[:, 2:] = 0
    assert loss(student, teacher, weight, iteration=0)['denoised'] != whole['denoised']
    other = made(3, 3, DiffKDLogitLoss, tau=2.)(student, teacher, iteration=0)
    assert other['denoised'] != whole['denoised']


@pytest.mark.parametrize(('arguments', 'error', 'message'), [
    (dict(steps=0), ValueError, '`steps` must be 1 or more'),
    (dict(steps=501), ValueError, '`steps` must be at most 500, but got 501; write'),
    (dict(latent=2.5), TypeError, '`latent` must be a whole number')])
def test_mistakes_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        DiffKDLoss(**arguments)
    if 'steps' in arguments:
        with pytest.raises(error, match=message):
            DiffKDLogitLoss(**arguments)
    with pytest.raises(ValueError, match=r"maps \(N, C, H, W\), but got \(2, 4\); compare 'neck'"):
        made()(some(2, 4), some(2, 4), iteration=0)


def test_the_values_by_family():
    method = METHODS['diffkd']
    assert method.entries('dense') == [dict(type='mmkd.DiffKDLoss', on='neck')]
    assert method.entries('roi')[0]['levels'] == [0, 1, 2, 3]
    assert method.entries('segmentor') == [dict(type='mmkd.DiffKDLogitLoss', on='cls')]
    loss = made(4, 8)
    assert (loss.steps, loss.decode.in_channels) == (5, 4)
