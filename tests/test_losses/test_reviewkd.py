"""Knowledge review compared with loops over positions and known values, and in runs."""
import itertools

import pytest
import torch
from conftest import detector_config, distiller, retinanet, save_teacher, saved_at, train
from mmengine.config import Config
from support.extensions import train_kill_resume
from support.tools import run_tool as run

from mmkd import ReviewKDLoss

SIZES = [(6, 5), (3, 2), (1, 1)]
"""Map sizes that allow all, some or none of the context sizes of HCL."""


# --- the formula, in loops over positions -------------------------------------------------------


def places(tensor):
    return itertools.product(*map(range, tensor.shape))


def from_places(shape, value):
    return torch.stack([value(*at) for at in itertools.product(*map(range, shape))]).view(shape)


def convolved(x, weight, bias=None):
    (n, _, h, w), (out, channels, size, _) = x.shape, weight.shape
    reach = size // 2

    def at(i, o, y, col):
        total = 0 * x.sum() if bias is None else bias[o]
        for c, dy, dx in itertools.product(range(channels), *[range(-reach, reach + 1)] * 2):
            if 0 <= y + dy < h and 0 <= col + dx < w:
                total = total + weight[o, c, dy + reach, dx + reach] * x[i, c, y + dy, col + dx]
        return total

    return from_places((n, out, h, w), at)


def normed(x, scale, shift, eps=1e-5):
    columns = []
    for c in range(x.shape[1]):
        values = [x[n, c, y, col] for n, y, col in places(x[:, 0])]
        mean = sum(values) / len(values)
        variance = sum((one - mean)**2 for one in values) / len(values)
        columns.append((mean, (variance + eps)**0.5))
    return from_places(x.shape, lambda n, c, y, col: (
        scale[c] * (x[n, c, y, col] - columns[c][0]) / columns[c][1] + shift[c]))


def pooled(x, size):
    (n, channels, h, w) = x.shape

    def cells(number, length):
        """Return the input positions that the pooled cell covers at least in part."""
        return range(number * length // size, -(-(number + 1) * length // size))

    def at(i, c, row, col):
        values = [x[i, c, y, z] for y in cells(row, h) for z in cells(col, w)]
        return sum(values) / len(values)

    return from_places((n, channels, size, size), at)


def difference(a, b):
    return sum((a[at] - b[at])**2 for at in places(a)) / a.numel()


def by_loops(student, teacher, layers):
    """The sum over levels of HCL, with fusion from the deepest to the shallowest level."""
    total, deeper = 0, None
    for level in range(len(student) - 1, -1, -1):
        mine = {name.split('.', 2)[2]: value for name, value in layers.items()
                if name.startswith(f'fusions.{level}.')}
        x = normed(convolved(student[level], mine['enter.0.weight']),
                   mine['enter.1.weight'], mine['enter.1.bias'])
        if deeper is not None:
            (_, _, h, w), (_, _, small, narrow) = x.shape, deeper.shape
            above = from_places(x.shape, lambda n, c, y, z, of=deeper, r=small / h, q=narrow / w: (
                of[n, c, int(y * r), int(z * q)]))
            gates = 1 / (1 + (-convolved(torch.cat([x, above], 1), mine['attention.weight'],
                                         mine['attention.bias'])).exp())
            x = from_places(x.shape, lambda n, c, y, z, x=x, above=above, gates=gates: (
                gates[n, 0, y, z] * x[n, c, y, z] + gates[n, 1, y, z] * above[n, c, y, z]))
        out = normed(convolved(x, mine['leave.0.weight']),
                     mine['leave.1.weight'], mine['leave.1.bias'])
        deeper = x
        value, weight, sum_of_weights = difference(out, teacher[level]), 1, 1
        for size in (4, 2, 1):
            if size < min(out.shape[2:]):
                weight = weight / 2
                value = value + weight * difference(pooled(out, size),
                                                    pooled(teacher[level], size))
                sum_of_weights += weight
        total = total + value / sum_of_weights
    return total


def levels(channels, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, channels, *size, dtype=torch.float64, generator=generator)
            for size in SIZES]


def made(**arguments):
    torch.manual_seed(0)
    loss = ReviewKDLoss(**{'mid_channels': 2, **arguments})
    loss.setup([2] * len(SIZES), [3] * len(SIZES))
    for parameter in loss.parameters():  # other values than ones and zeros in the norms
        parameter.data += 0.1 * torch.randn_like(parameter)
    return loss.double()


def test_value_and_gradient_by_loops():
    student, teacher, loss = levels(2, 1), levels(3, 2), made(loss_weight=3.)
    layers = dict(loss.named_parameters())
    inputs = [one.requires_grad_() for one in student] + list(layers.values())
    value, expected = loss(student, teacher), 3 * by_loops(student, teacher, layers)
    torch.testing.assert_close(value, expected)
    for got, wanted in zip(torch.autograd.grad(value, inputs),
                           torch.autograd.grad(expected, inputs)):
        torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-9)


def test_fusion_goes_from_deep_to_shallow_levels():
    student, teacher, loss = levels(2, 1), levels(3, 2), made()
    reviewed, deeper = [], None
    for fusion, one in reversed(list(zip(loss.fusions, student))):
        out, deeper = fusion(one.requires_grad_(), deeper)
        reviewed.insert(0, out)
    assert [out.shape for out in reviewed] == [other.shape for other in teacher]
    for number, out in enumerate(reviewed):
        reached = torch.autograd.grad(out.square().sum(), student, allow_unused=True,
                                      retain_graph=True)
        assert [one is not None for one in reached] == [n >= number for n in range(len(SIZES))]
    assert loss.fusions[-1].attention is None


# --- the hierarchical context loss by hand ------------------------------------------------------


@pytest.mark.parametrize(('context', 'expected'), [
    ((None, 4, 2, 1), 1 / 1.875),  # in every pool the differences of +1 and -1 cancel
    ((4, 2, 1), 0.), ((None, ), 1.), ((None, 8, 4), 1 / 1.5)])
def test_context_of_a_chessboard(context, expected):
    board = torch.tensor([[1., -1.], [-1., 1.]], dtype=torch.float64).repeat(1, 1, 4, 4)
    loss = ReviewKDLoss(context=context).hierarchical_context
    assert loss(board, 0 * board).item() == pytest.approx(expected)


@pytest.mark.parametrize('size', [(8, 8), (3, 7), (2, 2), (1, 1), (1, 9)])
@pytest.mark.parametrize('context', [(None, 4, 2, 1), (4, 2, 1), (1, )])
def test_context_of_a_constant_difference(size, context):
    one = torch.randn(2, 3, *size, dtype=torch.float64)
    loss = ReviewKDLoss(context=context).hierarchical_context
    assert loss(one, one + 3).item() == pytest.approx(9)
    assert loss(one, one) == 0


@pytest.mark.parametrize(('arguments', 'error', 'message'), [
    (dict(mid_channels='8'), TypeError, "`mid_channels` .*whole.* '8'; write"),
    (dict(mid_channels=0), ValueError, '`mid_channels` must be 1 or more, but got 0; write'),
    (dict(context=(4, 2.)), TypeError, '`context` .*whole.* 2.0; write'),
    (dict(context=()), ValueError, '`context` must have a size, but got none; write')])
def test_mistakes_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        ReviewKDLoss(**arguments)


# --- in runs ------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    """A teacher with a wider neck than the student's."""
    return save_teacher(tmp_path_factory.mktemp('teacher') / 't.pth', retinanet(channels=24))


def maker(shapes, teacher, **changes):
    def make(folder, **more):
        model = dict(distiller(retinanet(), teacher, dict(
            type='mmkd.ReviewKDLoss', on='neck', mid_channels=8)),
            hooks=[dict(type='mmkd.ReseedHook')])
        return detector_config(shapes, model, str(folder), **{
            'train_cfg.max_epochs': 3, 'train_cfg.val_interval': 9,
            'optim_wrapper.optimizer.momentum': 0.9, **changes, **more})

    return make


@pytest.mark.slow
def test_trained_killed_resumed_and_exported(shapes, tmp_path, teacher):
    losses, saved = train_kill_resume(maker(shapes, teacher), retinanet(), tmp_path)
    values = [one['loss_neck_reviewkd'] for one in losses]
    assert all(value > 0 for value in values)
    assert len(set(values)) == len(values)
    state = saved['mmkd']['losses']['loss_neck_reviewkd']
    assert [state[f'0.fusions.{level}.leave.0.weight'].shape for level in range(5)] == [
        (24, 8, 3, 3)] * 5
    assert '0.fusions.4.attention.weight' not in state
    # without the blank image of the dry run
    assert int(state['0.fusions.0.enter.1.num_batches_tracked']) == 6
    before = saved_at(tmp_path / 'whole' / 'epoch_1.pth')['mmkd']['losses']['loss_neck_reviewkd']
    for name, value in state.items():
        assert not torch.equal(value, before[name]), f'{name} is not trained'
    assert not any('fusions' in name for name in saved['state_dict'])


def test_one_image_whose_deepest_map_has_one_position(shapes, tmp_path, teacher):
    _, losses = train(maker(shapes, teacher, **{
        'train_dataloader.batch_size': 1, 'train_cfg.max_epochs': 1})(tmp_path / 'run'))
    assert all(0 < one['loss_neck_reviewkd'] < 100 for one in losses)


@pytest.mark.slow
def test_by_its_name_on_the_command_line(shapes, tmp_path, teacher):
    for name, model in (('small', retinanet()), ('big', retinanet(channels=24))):
        config = detector_config(shapes, model, 'unused')
        config.pop('work_dir')
        config.dump(str(tmp_path / f'{name}.py'))
    done = run('train.py', 'small.py', '--teacher', 'big.py', '--teacher-checkpoint',
               teacher['checkpoint'], '--method', 'reviewkd', cwd=tmp_path)
    assert 'loss_neck_reviewkd: ' in done.stdout + done.stderr
    folder = tmp_path / 'work_dirs' / 'small_reviewkd'
    assert Config.fromfile(str(folder / 'distill.py')).model.distill == [
        dict(type='mmkd.ReviewKDLoss', on='neck')]
    assert (folder / 'epoch_1.pth').is_file()
