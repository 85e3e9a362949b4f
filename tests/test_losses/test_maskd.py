"""MasKD compared with the authors' numbers and loops, and on empty input."""
import math

import pytest
import torch
from conftest import detector_config, distiller, save_teacher, train
from mmengine.config import Config
from support.authors import cases
from support.reppoints import reppoints

from mmkd import MasKDLoss, MaskTokens
from mmkd.core.prepared_file import write_prepared
from mmkd.inspection import entries_of, inspect_pair
from mmkd.losses import METHODS
from mmkd.losses.prepared import dice

NAMES = {'mask_token': 'tokens', 'prob.0.weight': 'mix.weight', 'prob.0.bias': 'mix.bias',
         'prob.2.weight': 'rate.weight', 'prob.2.bias': 'rate.bias'}
"""Names in mmkd of the authors' parameters."""


def ours(state, prefix=''):
    """Return the authors' state dict of a module, with the names of mmkd."""
    return {NAMES[name.removeprefix(prefix)]: value for name, value in state.items()
            if name.startswith(prefix)}


def file_of(path, states, **arguments):
    """Write the file of a first stage with given weights; return its path."""
    about = dict(type='MaskTokens', arguments=arguments, teacher={}, on='neck', paths=['neck'],
                 channels=[state['tokens'].shape[-1] for state in states])
    write_prepared(str(path), about, states)
    return str(path)


def set_up(path, state, warmup=5000, **arguments):
    loss = MasKDLoss(file_of(path, [state], **arguments), warmup=warmup).double()
    channels = state['tokens'].shape[-1]
    loss.setup(channels, channels)
    return loss.double()


def random_state(tokens=2, channels=3, weighted=True):
    module = MaskTokens(tokens, weighted).double()
    module.setup(channels)
    return {name: torch.randn(value.shape).double() for name, value in
            module.state_dict().items()}


def test_the_authors_numbers(tmp_path):
    found = [one for one in cases('maskd') if one[0]['kind'] != 'stage 1']
    for number, (settings, inputs, outputs) in enumerate(found):
        is_detector = settings['kind'] == 'detector'
        arguments = dict(tokens=settings['tokens'], weighted=settings['weighted'])
        levels = [inputs[side] if is_detector else [inputs[side]] for side in (
            'student', 'teacher')]
        states = [ours(inputs['state'], f'mask_modules.{level}.' if is_detector else '')
                  for level in range(len(levels[0]))]
        path = file_of(tmp_path / f'{number}.pth', states, **arguments)
        values, gradients = [], []
        for level, (student, teacher) in enumerate(zip(*levels)):
            loss = MasKDLoss(path, settings.get('warmup'), 7. if is_detector else 0.5)
            loss.setup(3, 3, teacher_level=level)
            student.requires_grad_()
            values.append(loss.double()(student, teacher, iteration=inputs.get('iteration', 0)))
            gradients += torch.autograd.grad(values[-1], student)
        # the authors' code has an eps of 1e-5
        exact = dict(rtol=1e-9, atol=0) if is_detector else dict(rtol=1e-5, atol=0)
        torch.testing.assert_close(sum(values), outputs['value'], **exact)
        expected = outputs['gradients'] if is_detector else [outputs['gradient']]
        for mine, wanted in zip(gradients, expected):
            torch.testing.assert_close(mine, wanted, **dict(exact, atol=1e-9))


def test_the_authors_first_stage():
    for settings, inputs, outputs in cases('maskd'):
        if settings['kind'] != 'stage 1':
            continue
        module = MaskTokens(settings['tokens'], settings['weighted'])
        module.setup(3)
        module.double().load_state_dict(ours(inputs['state']))
        new, parts = module(inputs['features'])
        torch.testing.assert_close(new, outputs['new'], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(parts['dice'], outputs['dice'], rtol=1e-9, atol=0)
        ((new * inputs['factor']).sum() + parts['dice']).backward()
        for name, wanted in ours(outputs['gradients']).items():
            torch.testing.assert_close(module.get_parameter(name).grad, wanted, rtol=1e-8,
                                       atol=1e-9)


@pytest.mark.parametrize('weighted', [True, False])
@pytest.mark.parametrize('iteration', [0, 3])
def test_by_loops(tmp_path, weighted, iteration):
    """The formula of the paper, position by position."""
    state = random_state(weighted=weighted)
    loss = set_up(tmp_path / 'p.pth', state, 3, tokens=2, weighted=weighted)
    student, teacher = (torch.randn(2, 3, 3, 2).double() for _ in range(2))
    expected = 0.
    for n in range(2):
        rates = [1 / 2] * 2
        if weighted:
            padded = torch.nn.functional.pad(teacher[n], (1, 1, 1, 1))
            mixed = [sum(float((padded[:, y:y + 3, x:x + 3] * state['mix.weight'][d]).sum())
                         for y in range(3) for x in range(2)) / 6 + float(state['mix.bias'][d])
                     for d in range(3)]
            scores = [sum(float(state['rate.weight'][k, d]) * mixed[d] for d in range(3)) +
                      float(state['rate.bias'][k]) for k in range(2)]
            total = sum(math.exp(score) for score in scores)
            rates = [math.exp(score) / total for score in scores]
        for k in range(2):
            above = below = 0.
            for y in range(3):
                for x in range(2):
                    mask = 1.
                    for side in (teacher, student)[:2 if iteration >= 3 else 1]:
                        product = sum(float(state['tokens'][k, c] * side[n, c, y, x])
                                      for c in range(3))
                        mask *= 1 / (1 + math.exp(-product))
                    error = sum(float(student[n, c, y, x] - teacher[n, c, y, x])**2
                                for c in range(3)) / 3
                    above += mask**2 * error
                    below += mask
            expected += rates[k] * above / below / 2
    assert loss(student, teacher, iteration=iteration).item() == pytest.approx(expected, rel=1e-9)


def test_gradient_belongs_to_the_student_alone(tmp_path):
    loss = set_up(tmp_path / 'p.pth', random_state(), 0, tokens=2)
    student, teacher = (torch.randn(1, 3, 3, 2).double().requires_grad_() for _ in range(2))
    loss(student, teacher, iteration=0).backward()
    assert teacher.grad is None
    assert not list(loss.parameters())
    assert not loss.state_dict()
    # The student's masks are constants, so the gradient is that of the squared error.
    own = loss.frozen
    with torch.no_grad():
        masks = (own.masks(teacher) * own.masks(student)).flatten(2)
        weight = (own.rates(teacher).unsqueeze(2) * masks.square() / masks.sum(2, True)).sum(1)
        expected = weight.view(1, 1, 3, 2) * 2 / 3 * (student - teacher)
    torch.testing.assert_close(student.grad, expected)


def test_equal_features_and_signs(tmp_path):
    """Equal features have a loss of 0, and the sign of a difference does not matter."""
    loss = set_up(tmp_path / 'p.pth', random_state(), tokens=2)
    teacher, difference = (torch.randn(1, 3, 4, 4).double() for _ in range(2))
    assert loss(teacher, teacher, iteration=0) == 0
    torch.testing.assert_close(loss(teacher + difference, teacher, iteration=0),
                               loss(teacher - difference, teacher, iteration=0))


def test_half_precision_and_autocast(tmp_path):
    loss = set_up(tmp_path / 'p.pth', random_state(), 0, tokens=2).float()
    student, teacher = (torch.randn(1, 3, 4, 4) for _ in range(2))
    expected = loss(student, teacher, iteration=0)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        torch.testing.assert_close(loss(student, teacher, iteration=0), expected)
    found = loss(student.half(), teacher.half(), iteration=0)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=0)


@pytest.mark.parametrize('shape', [(0, 3, 2, 2), (2, 3, 0, 4)])
def test_nothing_to_compare(tmp_path, shape):
    loss = set_up(tmp_path / 'p.pth', random_state(), tokens=2)
    student = torch.zeros(shape).double().requires_grad_()
    value = loss(student, torch.zeros(shape).double(), iteration=9)
    value.backward()
    assert value == 0


def test_large_features_are_finite(tmp_path):
    """Masks that are 0 everywhere do not cause a division by 0."""
    state = {name: value * 0 - 100 * (name == 'tokens') for name, value in random_state().items()}
    loss = set_up(tmp_path / 'p.pth', state, 0, tokens=2)
    student = torch.full((1, 3, 2, 2), 1e4).double().requires_grad_()
    value = loss(student, student.detach() + 1, iteration=0)
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()


def test_dice_by_loops():
    masks = torch.rand(2, 3, 2, 2).double()
    total = 0.
    for n in range(2):
        for i in range(3):
            for j in range(3):
                if i != j:
                    a, b = masks[n, i].flatten().tolist(), masks[n, j].flatten().tolist()
                    total += 2 * sum(x * y for x, y in zip(a, b)) / (
                        sum(x * x for x in a) + sum(y * y for y in b)) / (2 * 3 * 2)
    assert dice(masks).item() == pytest.approx(total)
    assert dice(masks[:, :1]) == 0
    assert dice(masks * 0).isfinite()


def test_weights_of_masks_on_maps_of_one_row():
    """Pooling before the 3x3 convolution equals pooling after it, at every border."""
    for size in ((1, 1), (1, 4), (3, 1), (4, 5)):
        module = MaskTokens(3).double()
        module.setup(4)
        module.double()
        features = torch.randn(2, 4, *size).double()
        torch.testing.assert_close(
            module.rates(features),
            module.rate(module.mix(features).mean((2, 3), True)).flatten(1).softmax(1))


def test_wrong_arguments():
    for settings, message in ((dict(warmup=-1), '`warmup` must be 0 or more'),
                              (dict(tokens=3), '`tokens` must be the path of a file')):
        with pytest.raises((ValueError, TypeError), match=message):
            MasKDLoss(**settings)
    with pytest.raises(ValueError, match='`tokens` must be 1 or more'):
        MaskTokens(tokens=0)


def test_the_values_of_the_authors_for_heads_of_points():
    method, entry = METHODS['maskd'], dict(
        type='mmkd.MasKDLoss', on='neck', connector='conv', loss_weight=10.)
    clip = {'optim_wrapper.clip_grad': dict(max_norm=35, norm_type=2)}
    assert method.entries('FCOSHead', 'dense') == [entry]
    neck, *points = method.entries('RepPointsHead', 'dense')
    assert neck == entry
    assert [(one['on'], one['beta'], one['loss_weight']) for one in points] == [
        ('bbox_head.reppoints_pts_refine_out', 0.11, 0.2),
        ('bbox_head.reppoints_pts_init_out', 0.11, 0.1)]
    assert {one['type'] for one in points} == {'mmkd.BoxImitationLoss'}
    assert method.around('FCOSHead', 'dense') == clip
    assert method.around('RepPointsHead', 'dense') == {}
    assert MasKDLoss().warmup == 5000


@pytest.mark.slow
def test_both_stages_with_reppoints(shapes, tmp_path):
    """The neck, and both sets of points."""
    student, teacher = reppoints(), reppoints(width=12)
    saved = save_teacher(tmp_path / 't.pth', teacher)
    train(detector_config(shapes, dict(
        type='mmkd.Prepare', teacher=saved, module=dict(type='mmkd.MaskTokens', tokens=2)),
        str(tmp_path / 'first')))
    pair = inspect_pair(*(Config(dict(default_scope='mmdet', model=one))
                          for one in (student, teacher)))
    entries = entries_of('maskd', pair, [str(tmp_path / 'first' / 'prepared.pth')])
    names = ['loss_neck_maskd', 'loss_refine_box', 'loss_init_box']
    assert [one.get('name', names[0]) for one in entries] == names
    runner, losses = train(detector_config(shapes, distiller(student, saved, *entries),
                                           str(tmp_path / 'second')))
    assert [term.name for term in runner.model.terms] == names
    assert all(0 < one[name] < math.inf for one in losses for name in names)
