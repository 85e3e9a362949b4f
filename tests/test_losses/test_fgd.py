"""FGD compared with loops and the authors' numbers, at the borders of boxes, and without boxes."""
import itertools
import math

import pytest
import torch
from support.authors import cases, renamed

from mmkd import FGDLoss
from mmkd.losses import METHODS, fgd
from mmkd.losses.fgd import coverage

PARTS = ['foreground', 'background', 'attention', 'relation']
BOXES = [[[3., 5, 17, 21], [10, 9, 33, 30], [11, 10, 12, 13]], [], [[1., 2, 39, 7]]]


def some(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64,
                       generator=torch.Generator().manual_seed(seed))


def boxes(which=BOXES):
    return [torch.tensor(one, dtype=torch.float64).reshape(-1, 4) for one in which]


def made(channels=4, **arguments):
    torch.manual_seed(0)
    loss = FGDLoss(**arguments)
    loss.setup(channels, channels)
    for parameter in loss.parameters():  # the last layers start at 0
        parameter.data += 0.3 * torch.randn_like(parameter)
    return loss.double()


def batch(height=4, width=5, seed=0):
    return (some(3, 4, height, width, seed=seed).requires_grad_(),
            some(3, 4, height, width, seed=seed + 1))


# --- in loops -------------------------------------------------------------------------------------


def soft(values):
    total = sum(one.exp() for one in values)
    return [one.exp() / total for one in values]


def attended(features, tau):
    """Return the attention of features (C, H, W) by position and by channel."""
    count, height, width = features.shape
    places = list(itertools.product(range(height), range(width)))
    spatial = soft([sum(features[(c, *at)].abs() for c in range(count)) / count / tau
                    for at in places])
    channel = soft([sum(features[(c, *at)].abs() for at in places) / len(places) / tau
                    for c in range(count)])
    return ({at: len(places) * one for at, one in zip(places, spatial)},
            [count * one for one in channel])


def related(block, features):
    """The relation R(F) of features (C, H, W), equation 13."""
    count, height, width = features.shape
    places = list(itertools.product(range(height), range(width)))
    share = soft([sum(block.attend.weight[0, c, 0, 0] * features[(c, *at)] for c in range(count)) +
                  block.attend.bias[0] for at in places])
    context = [sum(one * features[(c, *at)] for one, at in zip(share, places))
               for c in range(count)]
    down, norm, _, up = block.transform
    hidden = [sum(down.weight[i, c, 0, 0] * context[c] for c in range(count)) + down.bias[i]
              for i in range(len(down.weight))]
    mean = sum(hidden) / len(hidden)
    variance = sum((one - mean)**2 for one in hidden) / len(hidden)
    hidden = [((one - mean) / (variance + 1e-5)**0.5 * norm.weight[i, 0, 0] +
               norm.bias[i, 0, 0]).clamp(min=0) for i, one in enumerate(hidden)]
    added = [sum(up.weight[c, i, 0, 0] * one for i, one in enumerate(hidden)) + up.bias[c]
             for c in range(count)]
    return {(c, *at): features[(c, *at)] + added[c] for c in range(count) for at in places}


def masks(of_image, size, input_size):
    """Return, for one image, 1 / area of the smallest box at each position, and the background."""
    objects = dict.fromkeys(itertools.product(*map(range, size)), 0.)
    for box in of_image:
        left, up, right, down = (one / input_size[1 - k % 2] * size[1 - k % 2]
                                 for k, one in enumerate(box))
        left, up, right, down = map(int, (math.floor(left), math.floor(up), math.ceil(right),
                                          math.ceil(down)))
        for y, x in objects:
            if up <= y <= down and left <= x <= right:
                objects[y, x] = max(objects[y, x], 1 / ((right - left + 1) * (down - up + 1)))
    rest = [at for at, one in objects.items() if one == 0]
    return objects, {at: (at in rest) / max(len(rest), 1) for at in objects}


def by_loops(loss, student, teacher, which, input_size):
    parts = dict.fromkeys(PARTS, 0.)
    for n, of_image in enumerate(which):
        s, t = student[n], teacher[n]
        (mine, own), (theirs, their) = attended(s, loss.tau), attended(t, loss.tau)
        objects, rest = masks(of_image, s.shape[1:], input_size)
        r_s, r_t = related(loss.relations[0], s), related(loss.relations[1], t)
        for c, y, x in itertools.product(*map(range, s.shape)):
            error = theirs[y, x] * their[c] * (s[c, y, x] - t[c, y, x])**2 / len(which)
            parts['foreground'] += loss.weights['foreground'] * objects[y, x] * error
            parts['background'] += loss.weights['background'] * rest[y, x] * error
            parts['relation'] += loss.weights['relation'] / len(which) * (
                r_s[c, y, x] - r_t[c, y, x])**2
        parts['attention'] += loss.weights['attention'] / len(which) * (
            sum((mine[at] - theirs[at]).abs() for at in mine) +
            sum((a - b).abs() for a, b in zip(own, their)))
    return parts


@pytest.mark.parametrize('tau', [0.5, 0.8])
def test_value_and_gradient_by_loops(tau):
    loss = made(foreground=0.4, background=0.3, attention=0.2, relation=0.1, tau=tau)
    student, teacher = batch()
    found = loss(student, teacher, boxes=boxes(), input_size=(32, 40))
    expected = by_loops(loss, student, teacher, BOXES, (32, 40))
    assert list(found) == PARTS
    for part in PARTS:
        torch.testing.assert_close(found[part], expected[part])
        inputs = [student, *(loss.parameters() if part == 'relation' else ())]
        # The bias before a softmax has no gradient.
        for mine, wanted in zip(*(torch.autograd.grad(one[part], inputs, retain_graph=True)
                                  for one in (found, expected))):
            torch.testing.assert_close(mine, wanted, atol=1e-10, rtol=1e-6)
        assert wanted.abs().sum() > 0


@pytest.mark.parametrize('number', [0, 1])
def test_numbers_of_the_authors(number):
    settings, given, outputs = cases('fgd')[number]
    loss = made(3, **settings)
    loss.load_state_dict(renamed(given['state'], {
        f'{theirs}_{side}.': f'relations.{k}.{mine}.' for k, side in enumerate('st')
        for theirs, mine in (('conv_mask', 'attend'), ('channel_add_conv', 'transform'))}))
    student = given['student'].requires_grad_()
    parts = loss(student, given['teacher'], boxes=given['boxes'],
                 input_size=tuple(given['input_size']), image_sizes=given['image_sizes'])
    value = sum(parts.values())
    # The authors compute 1 / area in float32.
    torch.testing.assert_close(value, outputs['value'], rtol=1e-8, atol=0)
    torch.testing.assert_close(torch.autograd.grad(value, student)[0], outputs['gradient'],
                               rtol=1e-6, atol=1e-8)
    other = {'input': 'image', 'image': 'input'}[settings['boxes_by']]
    parts = made(3, **{**settings, 'boxes_by': other})(
        student, given['teacher'], boxes=given['boxes'], input_size=(32, 40),
        image_sizes=given['image_sizes'])
    is_padded = given['image_sizes'][0].tolist() != given['input_size']
    assert is_padded == (settings['boxes_by'] == 'image')
    assert (abs(parts['foreground'] + parts['background'] - value) > 1e-6) or not is_padded


# --- boxes ----------------------------------------------------------------------------------------


def test_a_box_covers_its_pixels_whatever_the_padding():
    """A box on pixels 8 to 23 of an input of 64 covers positions 1 to 3, with inclusive corners."""
    features = torch.zeros(1, 4, 8, 8)
    of_image = [torch.tensor([[8., 8, 23, 23]])]
    sizes = torch.tensor([[32, 48]])
    loss = FGDLoss()
    found = coverage(loss.on_map(of_image, features, (64, 64), sizes), (8, 8))
    assert found[0].nonzero().tolist() == [[y, x] for y in (1, 2, 3) for x in (1, 2, 3)]
    assert found.max().item() == pytest.approx(1 / 9)
    # The authors' scaling by the image: 8 / 32 * 8 = 2 to 5.75, and 8 / 48 * 8 = 1.33 to 3.83.
    theirs = coverage(FGDLoss(boxes_by='image').on_map(of_image, features, (64, 64), sizes),
                        (8, 8))
    assert theirs[0].nonzero().tolist() == [[y, x] for y in range(2, 7) for x in range(1, 5)]
    with pytest.raises(ValueError, match="needs `image_sizes`, but got none; .*boxes_by='input'"):
        FGDLoss(boxes_by='image').on_map(of_image, features, (64, 64), None)


@pytest.mark.parametrize('count', [1, 31, 32, 33, 70])
def test_many_boxes_equal_a_loop_over_boxes(count):
    corners = 40 * torch.rand(2, count, 2, dtype=torch.float64,
                              generator=torch.Generator().manual_seed(count))
    some_boxes = torch.cat([corners, corners + 5], dim=2)
    some_boxes[0, 1:] = float('nan')
    found = coverage(some_boxes, (30, 50))
    each = torch.stack([coverage(some_boxes[:, k:k + 1], (30, 50)) for k in range(count)])
    assert torch.equal(found, each.amax(0))
    assert torch.equal(found[0], each[0, 0])


def test_without_boxes_all_is_background():
    loss = made(foreground=1., background=1.)
    student, teacher = batch()
    for empty in (boxes([[], [], []]), boxes([[], [[-90., -90, -50, -50]], []])):
        parts = loss(student, teacher, boxes=empty, input_size=(32, 40))
        assert parts['foreground'] == 0
        (s, t), n = zip(*(attended(one, 0.5) for one in teacher)), 3
        expected = sum(
            s[i][y, x] * t[i][c] * (student[i, c, y, x] - teacher[i, c, y, x])**2 / (20 * n)
            for i in range(n) for c, y, x in itertools.product(range(4), range(4), range(5)))
        torch.testing.assert_close(parts['background'], expected)
        sum(parts.values()).backward()
        assert student.grad.isfinite().all()
    whole = boxes([[[0., 0, 40, 32]]] * 3)
    assert loss(student, teacher, boxes=whole, input_size=(32, 40))['background'] == 0


@pytest.mark.parametrize('box', [[5., 5, 5, 5], [9., 9, 3, 3], [float('-inf'), 0, float('inf'), 9],
                                 [300., 300, 400, 400]])
def test_odd_boxes_are_finite(box):
    loss, (student, teacher) = made(), batch()
    parts = loss(student, teacher, boxes=boxes([[box], [], []]), input_size=(32, 40))
    assert all(one.isfinite() for one in parts.values())
    assert parts['background'] > 0


# --- layers, gradients, precision -----------------------------------------------------------------


def test_the_relation_is_the_plain_difference_at_first():
    loss = FGDLoss(relation=1.)
    loss.setup(4, 4)
    loss.double()
    student, teacher = batch()
    found = loss(student, teacher, boxes=boxes(), input_size=(32, 40))['relation']
    torch.testing.assert_close(found, (student - teacher).square().sum() / 3)
    found.backward()
    for block in loss.relations:  # the blocks of both sides are trained
        assert block.transform[-1].weight.grad.abs().sum() > 0


def test_gradients_reach_the_student_alone():
    loss, (student, teacher) = made(), batch()
    teacher.requires_grad_()
    parts = loss(student, teacher, boxes=boxes(), input_size=(32, 40))
    for part, value in parts.items():
        gradients = torch.autograd.grad(value, [student, teacher, *loss.parameters()],
                                        retain_graph=True, allow_unused=True)
        assert gradients[0].abs().sum() > 0
        assert gradients[1] is None
        assert any(one is not None for one in gradients[2:]) == (part == 'relation')


def test_images_are_averaged():
    loss, (student, teacher) = made(), batch()
    one = loss(student, teacher, boxes=boxes(), input_size=(32, 40))
    two = loss(student.repeat(2, 1, 1, 1), teacher.repeat(2, 1, 1, 1), boxes=boxes() * 2,
               input_size=(32, 40))
    for part in PARTS:
        torch.testing.assert_close(one[part], two[part])


def test_precision_and_empty_input():
    loss, (student, teacher) = made().float(), batch()
    named = dict(boxes=[one.float() for one in boxes()], input_size=(32, 40))
    expected = loss(student.float(), teacher.float(), **named)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        mixed = loss(student.float(), teacher.float(), **named)
    half = loss(student.half(), teacher.half(), **named)
    for part in PARTS:
        assert torch.equal(mixed[part], expected[part])
        assert half[part].dtype == torch.float32
        torch.testing.assert_close(half[part], expected[part], rtol=2e-3, atol=0)
    for shape in ((0, 4, 5, 5), (2, 4, 0, 5)):
        empty = torch.zeros(shape, requires_grad=True)
        nothing = loss(empty, empty.detach(), boxes=boxes([[]] * shape[0]), input_size=(32, 40))
        assert list(nothing) == PARTS
        assert sum(nothing.values()) == 0
        sum(nothing.values()).backward()


@pytest.mark.parametrize(('arguments', 'message'), [
    *(({name: -1}, f'`{name}` must be 0 or more') for name in PARTS),
    (dict(tau=0), '`tau` must be greater than 0'),
    (dict(boxes_by='map'), "`boxes_by` must be 'input' or 'image', but got 'map'; write")])
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        FGDLoss(**arguments)
    with pytest.raises(ValueError, match=r"maps \(N, C, H, W\), but got \(2, 4\); compare 'neck'"):
        made()(some(2, 4), some(2, 4), boxes=[], input_size=(8, 8))


def test_the_values_of_the_authors_by_family():
    method, of_fcos = METHODS['fgd'], METHODS['fgd_fcos']
    clip = {'optim_wrapper.clip_grad': dict(max_norm=35, norm_type=2)}
    assert method.entries('dense') == [dict(type='mmkd.FGDLoss', on='neck')]
    plain = FGDLoss()
    assert plain.weights == dict(foreground=1e-3, background=5e-4, attention=5e-4, relation=5e-6)
    assert plain.tau == 0.5
    assert method.around('dense') == {**clip, 'model.inherit': 'neck,head'}
    assert method.entries('roi') == [dict(
        type='mmkd.FGDLoss', on='neck', levels=[0, 1, 2, 3], foreground=5e-5,
        background=2.5e-5, attention=5e-5, relation=5e-7)]
    assert method.around('roi') == clip
    assert of_fcos.entries('dense') == [dict(
        type='mmkd.FGDLoss', on='neck', foreground=1.6e-3, background=8e-4, attention=8e-4,
        relation=8e-6, tau=0.8)]
    assert of_fcos.around('dense') == method.around('dense')
    # The entry for the class of a dense head precedes the entry for its family.
    for kinds, tau in (('FCOSHead', dict(tau=0.8)), ('RepPointsHead', {})):
        assert method.entries(kinds, 'dense') == [dict(
            type='mmkd.FGDLoss', on='neck', foreground=1.6e-3, background=8e-4, attention=8e-4,
            relation=8e-6, **tau)]
        assert method.around(kinds, 'dense') == method.around('dense')
    assert fgd.AT_ONCE > 1
