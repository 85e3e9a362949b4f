"""Af-DCD compared with loops and the authors' numbers; its mask, map sizes and clipping."""
import math

import pytest
import torch
from conftest import distiller, save_teacher, segmentor, segmentor_config, train
from support.authors import cases
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmkd.losses import METHODS, AfDCDLoss, af_dcd
from mmkd.training.beside import clip_before_steps


def some(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(student=3, teacher=4, **settings):
    torch.manual_seed(0)
    loss = AfDCDLoss(**dict(dict(groups=2, pool=1, patch=2, lambda_fd=1., lambda_ctr=1.),
                            **settings))
    loss.setup(student, teacher)
    return loss.double()


def contrast(made, teacher, groups, patch, tau):
    """The contrast of maps (N, C, H, W) over patches, positions and groups, as in the paper."""
    n, channels, height, width = made.shape
    each = channels // groups
    total = 0.

    def sample(features, place, group):
        return [float(one) for one in features[(slice(group * each, (group + 1) * each), *place)]]

    def score(one, other):
        return math.exp(-sum(abs(a - b) for a, b in zip(one, other)) / tau)

    for image in range(n):
        for top in range(0, height, patch):
            for left in range(0, width, patch):
                places = [(top + y, left + x) for y in range(patch) for x in range(patch)]

                for place in places:
                    for group in range(groups):
                        own = sample(made[image], place, group)
                        hit = score(own, sample(teacher[image], place, group))
                        rest = sum(score(own, sample(teacher[image], other, k))
                                   for other in places for k in range(groups) if k != group)
                        total -= math.log(hit / (hit + rest))
    return total / (n * height * width)


def test_contrast_in_loops():
    own, other = some(2, 6, 4, 6), some(2, 6, 4, 6, seed=1)
    loss = made(3, 6, groups=3, tau=2.)
    assert loss.contrast(own, other).item() == pytest.approx(contrast(own, other, 3, 2, 2.),
                                                             rel=1e-12)


class Buffers(TorchDispatchMode):
    """Elements of the buffer that each backward pass of `cdist` has on a GPU."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._cdist_backward.default:
            gradient, own = args[:2]
            self.sizes.append(gradient.numel() * own.shape[-1])
        return func(*args, **(kwargs or {}))


def test_the_buffers_of_its_distances_are_bounded(monkeypatch):
    loss = made(3, 8, groups=2, patch=2)
    own, other = some(3, 8, 6, 8).requires_grad_(), some(3, 8, 6, 8, seed=1)
    pairs = (2 * 2 * 2)**2  # of a patch: 4 positions, 2 groups of 4 channels
    found = []
    for buffer in (1 << 26, 7 * 4 * pairs, 1):
        monkeypatch.setattr(af_dcd, 'BUFFER', buffer)
        own.grad = None
        value = loss.contrast(own, other)
        with Buffers() as buffers:
            value.backward()
        found.append((value.item(), own.grad, buffers.sizes))
    whole, some_patches, one_patch = found
    assert whole[2] == [36 * 4 * pairs]
    assert sorted(some_patches[2]) == [4 * pairs] + 5 * [7 * 4 * pairs]
    assert one_patch[2] == 36 * [4 * pairs]
    for value, gradient, _ in found[1:]:
        assert value == whole[0]
        assert torch.equal(gradient, whole[1])


@pytest.mark.parametrize('case', cases('af_dcd'))
def test_the_authors_numbers(case, monkeypatch):
    settings, inputs, outputs = case
    s = inputs['student'].requires_grad_()
    loss = made(patch=4, **settings)
    assert len(list(loss.parameters())) == len(inputs['weights'])
    with torch.no_grad():
        for one, theirs in zip(loss.parameters(), inputs['weights']):
            one.copy_(theirs)
    monkeypatch.setattr(torch, 'rand', lambda shape, **_: inputs['kept'].reshape(shape))
    parts = loss(s, inputs['teacher'], iteration=0)
    for name, value in parts.items():
        torch.testing.assert_close(value, outputs[name], rtol=1e-9, atol=0)
    (1e-2 * parts['feature'] + parts['contrast']).backward()
    torch.testing.assert_close(s.grad, outputs['gradient'], rtol=1e-7, atol=1e-9)


def test_the_mask_is_that_of_the_iteration():
    loss, s, t = made(), some(2, 3, 40, 40), some(2, 4, 40, 40)
    seen = []
    loss.generator.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    before = torch.get_rng_state()
    for iteration in (5, 5, 6):
        loss(s, t, iteration=iteration)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])
    masked = (seen[0] == 0)
    # the same for all channels of a position
    assert torch.equal(masked, masked[:, :1].expand_as(masked))
    assert not torch.equal(masked[0], masked[1])
    assert masked.double().mean().item() == pytest.approx(0.75, abs=0.03)
    assert torch.equal(seen[0][~masked], loss.align(s)[~masked])


@pytest.mark.parametrize(('size', 'used'), [((5, 7), (4, 6)), ((3, 2), (2, 2)), ((1, 1), (1, 1))])
def test_maps_are_cropped_to_whole_patches(size, used):
    h, w = used
    loss, own, other = made(pool=2, patch=2), some(2, 4, *size), some(2, 4, *size, seed=1)
    cropped = loss.contrast(own[..., :h, :w], other[..., :h, :w])
    if size == (5, 7):  # pooled to 2x3
        cropped = loss.contrast(own[..., :4, :4], other[..., :4, :4])
    torch.testing.assert_close(loss.contrast(own, other), cropped)
    assert cropped > 0


def test_equal_maps_have_the_lowest_contrast():
    loss, t = made(pool=1, tau=0.1), 5 * some(2, 4, 4, 4)
    assert loss.contrast(t, t) < 0.2 * loss.contrast(-t, t)


def test_gradients_reach_only_trained_parts():
    loss, s, t = made(), some(2, 3, 4, 4).requires_grad_(), some(2, 4, 4, 4).requires_grad_()
    sum(loss(s, t, iteration=0).values()).backward()
    assert t.grad is None
    assert s.grad.abs().sum() > 0
    assert all(one.grad.abs().sum() > 0 for one in loss.parameters())
    kept = s.grad.abs().sum(1) > 0
    assert 0 < kept.double().mean() < 0.6


def test_equal_channels_need_no_convolution():
    assert isinstance(made(4, 4).align, nn.Identity)
    assert sum(one.numel() for one in made(4, 4, enhanced=True).parameters()) == (
        2 * sum(one.numel() for one in made(4, 4).parameters()))


def test_half_precision_and_autocast():
    s, t = (one.half().requires_grad_() for one in (some(2, 3, 4, 4), some(2, 4, 4, 4)))
    with torch.autocast('cpu', torch.bfloat16):
        parts = made().float()(s, t, iteration=0)
    exact = made()(s.double(), t.double(), iteration=0)
    for name, value in parts.items():
        assert value.dtype is torch.float32
        assert value.item() == pytest.approx(exact[name].item(), rel=0.2)
    sum(parts.values()).backward()


@pytest.mark.parametrize('shape', [(0, 3, 4, 4), (2, 3, 0, 4)])
def test_without_positions_it_is_zero_and_in_the_graph(shape):
    s = torch.zeros(shape, requires_grad=True)
    parts = made().float()(s, torch.zeros(shape[0], 4, *shape[2:]), iteration=0)
    assert [value.item() for value in parts.values()] == [0, 0]
    sum(parts.values()).backward()


def test_refusals():
    for settings, message in ((dict(tau=0), '`tau` must be greater than 0'),
                              (dict(masked=1.5), '`masked` must be between 0 and 1, but got 1.5'),
                              (dict(groups=0), '`groups` must be 1 or more')):
        with pytest.raises(ValueError, match=message):
            AfDCDLoss(**settings)
    with pytest.raises(ValueError, match='9 channels and `groups=16` have no common divisor'):
        AfDCDLoss().setup(8, 9)
    loss = AfDCDLoss()
    loss.setup(8, 24)
    assert loss.groups == 8
    with pytest.raises(ValueError, match=r'maps \(N, C, H, W\), but got \(2, 3\)'):
        made()(some(2, 3), some(2, 4), iteration=0)


def test_the_authors_values():
    loss = AfDCDLoss()
    assert (loss.lambda_fd, loss.lambda_ctr, loss.masked, loss.tau, loss.groups, loss.pool,
            loss.patch, loss.clip_norm, loss.enhanced) == (2e-6, 5e-3, 0.75, 0.07, 16, 4, 4, 15,
                                                           False)
    first, kd = METHODS['af_dcd'].entries('segmentor')
    assert first == dict(type='mmkd.AfDCDLoss', on='backbone', levels=[-1])
    assert kd == dict(type='mmkd.KDLoss', on='cls')


# --- gradient clipping --------------------------------------------------------------------------


def test_each_loss_is_clipped_separately():
    losses = nn.ModuleList([made(clip_norm=0.5), made(clip_norm=None), made(clip_norm=1e9)])
    student = nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([student, *losses.parameters()], 1e-9)
    clip_before_steps(losses, optimizer)
    student.grad = torch.full((3, ), 7.)
    for loss in losses:
        for one in loss.parameters():
            one.grad = torch.ones_like(one)
    optimizer.step()
    norms = [torch.cat([one.grad.flatten() for one in loss.parameters()]).norm().item()
             for loss in losses]
    count = sum(one.numel() for one in losses[0].parameters())
    assert norms == pytest.approx([0.5, count**0.5, count**0.5])
    assert student.grad.tolist() == [7., 7., 7.]


def test_in_a_run_its_layers_are_clipped_in_each_step(streets, tmp_path, monkeypatch):
    from mmseg.datasets import CityscapesDataset
    teacher = save_teacher(tmp_path / 't.pth', segmentor(width=12),
                           CityscapesDataset.METAINFO['classes'], scope='mmseg')
    entry = dict(type='mmkd.AfDCDLoss', on='backbone', levels=[-1], clip_norm=0.5)
    clipped = []
    monkeypatch.setattr(nn.utils, 'clip_grad_norm_',
                        lambda parameters, norm: clipped.append((list(parameters), norm)))
    runner, losses = train(segmentor_config(
        streets, distiller(segmentor(), teacher, entry), str(tmp_path / 'run'),
        **{'train_cfg.val_interval': 9}))
    assert all(one['loss_backbone_afdcd_contrast'] > 0 for one in losses)
    side = runner.model.distillation.side_modules
    side.join(runner)  # a second call changes nothing
    own, = side.of('losses').values()
    assert [norm for _, norm in clipped] == [0.5, 0.5]
    assert all(a is b for a, b in zip(clipped[1][0], own.parameters()))
    assert len(clipped[1][0]) == len(list(own.parameters()))
    assert len(runner.optim_wrapper.optimizer._optimizer_step_pre_hooks) == 1
