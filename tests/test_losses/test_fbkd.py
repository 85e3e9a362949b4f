"""FBKD compared with loops and OpenMMLab's port; zero differences; layers per level."""
import itertools
import math

import pytest
import torch
from support.authors import cases, renamed

from mmkd import FBKDLoss
from mmkd.losses import METHODS
from mmkd.losses.fbkd import NonLocal

PARTS = ['feature', 'channel', 'spatial', 'relation']
NAMES = {'student.student_non_local.': 'relations.0.', 'teacher.teacher_non_local.': 'relations.1.',
         'student.channel_wise_adaptation.': 'adapt_channels.',
         'student.spatial_wise_adaptation.': 'adapt_positions.',
         'student.adaptation_layers.': 'adapt_features.',
         'student.non_local_adaptation.': 'adapt_relations.'}


def some(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64,
                       generator=torch.Generator().manual_seed(seed))


def made(channels=4, level=0, **arguments):
    torch.manual_seed(0)
    loss = FBKDLoss(**arguments)
    loss.setup(channels, channels, level=level)
    for parameter in loss.parameters():  # the scale of a norm starts at 0
        parameter.data += 0.3 * torch.randn_like(parameter)
    return loss.double()


# --- in loops -------------------------------------------------------------------------------------


def norm(values):
    return sum(one**2 for one in values)**0.5


def attended(features, tau):
    """Return the attention of features (C, H, W) by position and by channel."""
    count, height, width = features.shape
    places = list(itertools.product(range(height), range(width)))
    spatial = [math.exp(sum(abs(float(features[(c, *at)])) for c in range(count)) / count / tau)
               for at in places]
    channel = [math.exp(sum(abs(float(features[(c, *at)])) for at in places) / len(places) / tau)
               for c in range(count)]
    return ({at: len(places) * one / sum(spatial) for at, one in zip(places, spatial)},
            [count * one / sum(channel) for one in channel])


def applied(layer, vector):
    """Apply a 1x1 convolution or a linear layer to a list of channels."""
    weight = layer.weight.flatten(1)
    bias = [0.] * len(weight) if layer.bias is None else layer.bias
    return [sum(w * v for w, v in zip(row, vector)) + bias[i] for i, row in enumerate(weight)]


def non_local(block, features):
    """The non-local block on (N, C, H, W), with affinities of all pairs of positions."""
    n, count, height, width = features.shape
    pool = block.pool
    outs = {}
    for i in range(n):
        def at_each(layer, i=i):
            return {(y, x): applied(layer, [features[i, c, y, x] for c in range(count)])
                    for y in range(height) for x in range(width)}

        def pooled(layer, at_each=at_each):
            found = at_each(layer)
            return [[max((found[y, x][c] for y in range(row * pool, row * pool + pool)
                          for x in range(col * pool, col * pool + pool)), key=float)
                     for c in range(len(found[0, 0]))]
                    for row in range(height // pool) for col in range(width // pool)]

        keys, values = pooled(block.key), pooled(block.value)
        for at, query in at_each(block.query).items():
            affinity = [sum(a * b for a, b in zip(query, key)) / len(keys) for key in keys]
            mixed = [sum(a * value[c] for a, value in zip(affinity, values))
                     for c in range(len(query))]
            for c, one in enumerate(applied(block.out, mixed)):
                outs[(i, c, *at)] = one
    related = {}
    for c in range(count):
        column = {at: one for at, one in outs.items() if at[1] == c}
        mean = sum(column.values()) / len(column)
        variance = sum((one - mean)**2 for one in column.values()) / len(column)
        for at, one in column.items():
            related[at] = features[at] + block.norm.bias[c] + (
                block.norm.weight[c] * (one - mean) / (variance + 1e-5)**0.5)
    return related


def by_loops(loss, student, teacher):
    n, count, height, width = student.shape
    places = list(itertools.product(range(height), range(width)))
    feature, channel, spatial, relation = [], [], [], []
    r_s, r_t = (non_local(block, one) for block, one in zip(loss.relations, (student, teacher)))
    window = loss.adapt_positions
    for i in range(n):
        (mine, own), (theirs, their) = (attended(one[i], loss.tau) for one in (student, teacher))
        means = {at: sum(student[(i, c, *at)] for c in range(count)) / count for at in places}
        for y, x in places:
            column = [student[i, c, y, x] for c in range(count)]
            for c, one in enumerate(applied(loss.adapt_features, column)):
                weight = (mine[y, x] + theirs[y, x]) / 2
                if loss.attends_channels:
                    weight = weight * (own[c] + their[c]) / 2
                feature.append(weight**0.5 * (one - teacher[i, c, y, x]))
            near = sum(window.weight[0, 0, dy + 1, dx + 1] * means[y + dy, x + dx]
                       for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (y + dy, x + dx) in means)
            spatial.append(near + window.bias[0] -
                           sum(teacher[i, c, y, x] for c in range(count)) / count)
            adapted = applied(loss.adapt_relations, [r_s[i, c, y, x] for c in range(count)])
            relation += [one - r_t[i, c, y, x] for c, one in enumerate(adapted)]
        pooled = [sum(student[(i, c, *at)] for at in places) / len(places) for c in range(count)]
        channel += [one - sum(teacher[(i, c, *at)] for at in places) / len(places)
                    for c, one in enumerate(applied(loss.adapt_channels, pooled))]
    return {name: loss.weights[name] * norm(values) for name, values in zip(
        PARTS, (feature, channel, spatial, relation))}


@pytest.mark.parametrize('attends_channels', [False, True])
def test_value_and_gradient_by_loops(attends_channels):
    loss = made(2, feature=0.4, channel=0.3, spatial=0.25, relation=0.2, reductions=(2, ),
                pools=(2, ), attends_channels=attends_channels)
    student, teacher = some(2, 2, 4, 5).requires_grad_(), some(2, 2, 4, 5, seed=1)
    found, expected = loss(student, teacher), by_loops(loss, student, teacher)
    assert list(found) == PARTS
    inputs = [student, *loss.parameters()]
    for part in PARTS:
        torch.testing.assert_close(found[part], expected[part])
        # The masks have no gradient.
        for mine, wanted in zip(*(torch.autograd.grad(one[part], inputs, retain_graph=True,
                                                      allow_unused=True)
                                  for one in (found, expected))):
            assert (mine is None) == (wanted is None)
            if mine is not None:
                torch.testing.assert_close(mine, wanted, atol=1e-10, rtol=1e-6)


@pytest.mark.parametrize('number', [0, 1])
def test_numbers_of_the_port(number):
    settings, given, outputs = cases('fbkd')[number]
    loss = made(**settings)
    state = {}
    for name, value in renamed(given['state'], NAMES).items():
        for theirs, mine in (('.theta.conv.', '.query.'), ('.phi.0.0.conv.', '.key.'),
                             ('.g.0.0.conv.', '.value.'), ('.conv_out.conv.', '.out.'),
                             ('.conv_out.bn.', '.norm.')):
            name = name.replace(theirs, mine)
        state[name] = value
    missing, unknown = loss.load_state_dict(state, strict=False)
    assert not unknown
    assert all('running' in name or 'num_batches' in name for name in missing)
    student = given['student'].requires_grad_()
    value = sum(loss(student, given['teacher']).values())
    torch.testing.assert_close(value, outputs['value'], rtol=1e-9, atol=0)
    torch.testing.assert_close(torch.autograd.grad(value, student)[0], outputs['gradient'],
                               rtol=1e-7, atol=1e-10)


# --- layers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(('level', 'inner', 'pool'), [
    (0, 4, 8), (1, 4, 4), (2, 8, 2), (3, 8, 2), (4, 8, 2), (None, 4, 8)])
def test_layers_are_those_of_the_level(level, inner, pool):
    loss = FBKDLoss()
    loss.setup(16, 16, level=level)
    for block in loss.relations:
        assert (len(block.query.weight), block.pool) == (inner, pool)


def test_a_block_is_the_identity_at_first_and_takes_small_maps():
    features = some(2, 8, 3, 5)
    for size in ((3, 5), (1, 1), (20, 1)):
        one = features[..., :1, :1].expand(-1, -1, *size) if size != (3, 5) else features
        block = NonLocal(8, 4, 8).double()
        assert torch.equal(block(one), one)
    assert torch.equal(NonLocal(8, 4, 8).double()(features[:1, :, :1, :1]),
                       features[:1, :, :1, :1])  # one value per channel: no batch statistics


def test_no_matrix_of_all_pairs_of_positions():
    """For a map of 128x128 the affinity would take 16 MiB, the features take 1 MiB."""
    block = NonLocal(16, 4, 8)
    sizes = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            sizes.extend(one.numel() for one in (out if isinstance(out, tuple) else (out, ))
                         if isinstance(one, torch.Tensor))
            return out

    with Watch():
        block(torch.randn(1, 16, 128, 128))
    assert max(sizes) == 16 * 128 * 128


# --- gradients, precision -------------------------------------------------------------------------


def test_a_difference_of_0_has_a_gradient_of_0():
    """The loss uses norms that are not squared, whose derivative is infinite at 0."""
    loss = FBKDLoss()
    loss.setup(4, 4, level=2)
    for layer in (loss.adapt_features, loss.adapt_channels, loss.adapt_relations,
                  loss.adapt_positions):
        torch.nn.init.zeros_(layer.weight), torch.nn.init.zeros_(layer.bias)
    student, teacher = torch.zeros(2, 4, 4, 4, requires_grad=True), torch.zeros(2, 4, 4, 4)
    value = sum(loss(student, teacher).values())
    value.backward()
    assert value == 0
    assert student.grad.abs().sum() == 0
    assert all(one.grad is None or one.grad.isfinite().all() for one in loss.parameters())


def test_gradients_reach_the_student_and_all_layers():
    loss, student = made(), some(2, 4, 8, 8).requires_grad_()
    teacher = some(2, 4, 8, 8, seed=1).requires_grad_()
    sum(loss(student, teacher).values()).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0
    # also the block on the teacher's features
    assert all(one.grad.abs().sum() > 0 for one in loss.parameters())


def test_it_grows_with_the_root_of_the_batch():
    loss, student, teacher = made(), some(2, 4, 8, 8), some(2, 4, 8, 8, seed=1)
    one = loss(student, teacher)
    two = loss(student.repeat(2, 1, 1, 1), teacher.repeat(2, 1, 1, 1))
    for part in PARTS:
        torch.testing.assert_close(two[part], 2**0.5 * one[part])


def test_precision_and_empty_input():
    loss = made().float()
    student, teacher = some(2, 4, 8, 8).float(), some(2, 4, 8, 8, seed=1).float()
    expected = loss(student, teacher)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        mixed = loss(student, teacher)
    half = loss(student.half(), teacher.half())
    for part in PARTS:
        assert torch.equal(mixed[part], expected[part])
        assert half[part].dtype == torch.float32
        torch.testing.assert_close(half[part], expected[part], rtol=2e-3, atol=0)
    for shape in ((0, 4, 5, 5), (2, 4, 0, 5)):
        empty = torch.zeros(shape, requires_grad=True)
        nothing = loss(empty, empty.detach())
        assert list(nothing) == PARTS
        assert sum(nothing.values()) == 0
        sum(nothing.values()).backward()


@pytest.mark.parametrize(('arguments', 'error', 'message'), [
    (dict(spatial=-1), ValueError, '`spatial` must be 0 or more'),
    (dict(tau=0), ValueError, '`tau` must be greater than 0'),
    (dict(pools=(8, 0)), ValueError, '`pools` must be 1 or more, but got 0'),
    (dict(reductions=()), ValueError, '`reductions` must have a number for the first level'),
    (dict(reductions=(2., )), TypeError, '`reductions` must be a whole number')])
def test_mistakes_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        FBKDLoss(**arguments)
    with pytest.raises(ValueError, match=r"maps \(N, C, H, W\), but got \(2, 4\); compare 'neck'"):
        made()(some(2, 4), some(2, 4))


def test_the_values_by_family():
    assert METHODS['fbkd'].entries('roi') == [
        dict(type='mmkd.FBKDLoss', on='neck', levels=[0, 1, 2, 3])]
    loss = FBKDLoss()
    assert loss.weights == dict(feature=7e-5, channel=4e-3, spatial=4e-3, relation=7e-5)
    assert loss.tau == 0.5
    dense, = METHODS['fbkd'].entries('dense')
    assert (dense['feature'], dense['spatial'], dense['attends_channels']) == (4.2e-4, 2.4e-2, True)
