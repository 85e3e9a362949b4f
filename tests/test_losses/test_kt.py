"""KT compared with loops, and in runs that are killed and resumed around its tuning point."""
import pytest
import torch
from conftest import build, distiller, save_teacher, saved_at, segmentor, segmentor_config, train
from mmengine.config import Config
from support.extensions import train_kill_resume
from support.tools import run_tool

from mmkd.losses import METHODS, KTLoss

ENTRY = dict(type='mmkd.KTLoss', on='decode_head.bottleneck', also=['cls'])


# --- the formulas, in loops -----------------------------------------------------------------------


def soft(values, tau):
    total = sum(torch.exp(v / tau) for v in values)
    return [torch.exp(v / tau) / total for v in values]


def divergence(s, t, tau):
    """The divergence of nested lists (N, C, positions)."""
    each = []
    for s_map, t_map in zip((row for one in s for row in one), (row for one in t for row in one)):
        p, q = soft(t_map, tau), soft(s_map, tau)
        each.append(sum(a * (torch.log(a) - torch.log(b)) for a, b in zip(p, q)))
    return tau**2 * sum(each) / len(each)


def maps(x):
    """Convert to nested lists (N, C, positions)."""
    return [[list(row.flatten()) for row in one] for one in x]


def cut(row, inside):
    """Return the two tailored maps of one class."""
    high = [v for v, here in zip(row, inside) if here and v > 0]
    mean = sum(high) / len(high) if high else None
    own = [(v if mean is None or v > mean else mean) if here else v * 0
           for v, here in zip(row, inside)]
    limit = sum(v for v, here in zip(row, inside) if not here) / len(row)
    rest = [v * 0 if here else (limit if v > limit else v) for v, here in zip(row, inside)]
    return own, rest


def enlarged(x, height, width):
    """Enlarge by nearest neighbours."""
    return [[[row[y * row.shape[0] // height, x * row.shape[1] // width]
              for y in range(height) for x in range(width)] for row in one] for one in x]


def logit_tailoring(s, t, labels, tau):
    cuts = []
    s, t = (enlarged(side, *labels.shape[1:]) for side in (s, t))
    for side in (s, t):
        cuts.append([[cut(row, [int(k) == number for k in truth.flatten()])
                      for number, row in enumerate(one)] for one, truth in zip(side, labels)])
    (own, own_rest), (other, other_rest) = (
        [[[pair[part] for pair in one] for one in side] for part in (0, 1)] for side in cuts)
    both = [[[a + b for a, b in zip(*rows)] for rows in zip(*ones)]
            for ones in zip(other, other_rest)]
    return (divergence(s, both, tau) + divergence(own, other, tau)
            + divergence(own_rest, other_rest, tau))


def unit(row):
    length = torch.sqrt(sum(v * v for v in row))
    return [v / length for v in row]


def mixed(weights, rows):
    return [[sum(w * row[i] for w, row in zip(weight, rows)) for i in range(len(rows[0]))]
            for weight in weights]


def layer(conv, rows):
    out = mixed(conv.weight[:, :, 0, 0], rows)
    return out if conv.bias is None else [[v + b for v in row] for row, b in zip(out, conv.bias)]


def tail(layers, rows):
    for conv in layers[:4:2]:
        rows = [[v.clamp(min=0) for v in row] for row in layer(conv, rows)]
    return layer(layers[4], rows)


def distance(one, other):
    return torch.sqrt(sum((a - b + 1e-7)**2 for a, b in zip(one, other)))


def feature_tailoring(loss, s, t, is_early):
    width, parts = s.shape[-1], dict(high=[], anchor=[], target=[])
    contrast = []
    for own, other in zip(maps(s), maps(t)):
        m = [[sum(a * b for a, b in zip(unit(row), unit(column))) for column in own]
             for row in other]
        if not is_early:
            m = list(zip(*m))
        source, layers = (own, loss.student_tail) if is_early else (other, loss.teacher_tail)
        high = tail(layers, mixed(m, source))
        low = tail(layers, mixed([[1 - v for v in row] for row in m], source))
        anchor = layer(loss.anchor, own) if is_early else own
        parts['high'].append(high)
        for a, p, n in zip(anchor, high, low):
            for start in range(0, len(a), width):
                line = slice(start, start + width)
                contrast.append((distance(a[line], p[line]) - distance(a[line], n[line])
                                 + 1).clamp(min=0))
    feature = (divergence(parts['high'], maps(t), loss.tau) if is_early else divergence(
        maps(s), [[[v.detach() for v in row] for row in one] for one in parts['high']], loss.tau))
    return feature, sum(contrast) / len(contrast)


def same_with_gradient(value, expected, inputs):
    torch.testing.assert_close(value, expected)
    found, wanted = (torch.autograd.grad(one, inputs, allow_unused=True, retain_graph=True)
                     for one in (value, expected))
    for one, other in zip(found, wanted):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other)
    return found


def some(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


LABELS = torch.tensor([[[0, 0, 1, 1], [0, -1, 1, 1], [2, 2, 1, 0], [2, 2, -1, 0]],
                       [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1], [-1, -1, -1, -1]]])


def parts_of(loss, own, other, s=None, t=None, iteration=0):
    """The parts of a loss for logits, and for features s and t."""
    s = some(2, 4, 2, 3) if s is None else s
    t = some(2, 6, 2, 3, seed=1) if t is None else t
    if not hasattr(loss, 'anchor'):
        loss.setup(4, 6)
    loss.double()
    return loss(s, t, iteration=iteration, label_map=LABELS, student_also=[own],
                teacher_also=[other])


@pytest.mark.parametrize('size', [4, 2])
@pytest.mark.parametrize('tau', [4., 1.])
def test_logit_tailoring(size, tau):
    """Class 2 has no positive logit in the first image and no pixel in the second."""
    s, t = (3 * some(2, 3, size, size, seed=seed) for seed in (0, 1))
    s[0, 2], t[0, 2] = -s[0, 2].abs(), -t[0, 2].abs()
    s.requires_grad_()
    value = parts_of(KTLoss(tau=tau), s, t)['logit']
    same_with_gradient(value, logit_tailoring(s, t, LABELS, tau), [s])
    for weights in (dict(loss_weight=2.), dict(lambda_mask=2.)):
        torch.testing.assert_close(parts_of(KTLoss(tau=tau, **weights), s, t)['logit'], 2 * value)


@pytest.mark.parametrize('iteration', [0, 1, 2, 3])
def test_feature_tailoring_on_both_sides_of_the_tuning_point(iteration):
    """The third iteration is the tuning point."""
    torch.manual_seed(0)
    s, t = some(2, 4, 2, 3).requires_grad_(), some(2, 6, 2, 3, seed=1)
    loss = KTLoss(tau=2., tuning_point=3, lambda_custom=3., lambda_contrastive=0.5)
    parts = parts_of(loss, some(2, 3, 2, 2), some(2, 3, 2, 2, seed=1), s, t, iteration)
    feature, contrast = feature_tailoring(loss, s, t, is_early=iteration < 2)
    inputs = [s, *loss.parameters()]
    same_with_gradient(parts['feature'], 3 * feature, inputs)
    found = same_with_gradient(parts['contrast'], 0.5 * contrast, inputs)
    trained = {name.split('.')[0] for (name, _), one in zip(loss.named_parameters(), found[1:])
               if one is not None}
    assert trained == ({'student_tail', 'anchor'} if iteration < 2 else {'teacher_tail'})


def test_one_further_point_with_maps_is_asked_for():
    loss = KTLoss()
    s, t = some(2, 4, 2, 3), some(2, 6, 2, 3)
    own, other = some(2, 3, 2, 2), some(2, 3, 2, 2, seed=1)
    assert set(parts_of(loss, own, other)) == {'logit', 'feature', 'contrast'}
    with pytest.raises(ValueError, match="one further point, but got 0; write also="):
        loss(s, t, iteration=0, label_map=LABELS, student_also=[], teacher_also=[])
    with pytest.raises(ValueError, match=r"maps \(N, C, H, W\), but got \(2, 3\); compare 'cls'"):
        parts_of(loss, own[..., 0, 0], other[..., 0, 0])


# --- in a Runner ----------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    """A teacher with a wider head than the student's."""
    from mmseg.datasets import CityscapesDataset
    return save_teacher(tmp_path_factory.mktemp('teacher') / 't.pth', segmentor(channels=24),
                        CityscapesDataset.METAINFO['classes'], scope='mmseg')


def maker(streets, student, teacher, *entries):
    def make(folder, **more):
        model = dict(distiller(student, teacher, *entries),
                     hooks=[dict(type='mmkd.ReseedHook')])
        return segmentor_config(streets, model, str(folder), **{
            'train_cfg.max_iters': 6, 'train_cfg.val_interval': 99,
            'optim_wrapper.optimizer.momentum': 0.9, **more})

    return make


def test_features_may_have_more_channels_than_there_are_classes(teacher):
    """The check before training makes up a map of labels, of classes that the logits have."""
    model = build(distiller(segmentor(channels=32), teacher, dict(
        type='mmkd.KTLoss', on='features', also=['cls'])), 'mmseg')
    model.prepare()
    term, = model.terms
    assert term.name == 'loss_features_kt'


@pytest.mark.slow
def test_trained_killed_resumed_and_exported(streets, tmp_path, teacher):
    """The run is killed before its tuning point."""
    student = segmentor()
    make = maker(streets, student, teacher, dict(ENTRY, tuning_point=4))
    losses, saved = train_kill_resume(make, student, tmp_path, scope='mmseg')
    for part in ('logit', 'feature', 'contrast'):
        values = [one[f'loss_decode_head_bottleneck_kt_{part}'] for one in losses]
        assert all(0 < value < 10 for value in values)
        assert len(set(values)) == len(values)
    state = saved['mmkd']['losses']['loss_decode_head_bottleneck_kt']
    assert state['0.student_tail.0.weight'].shape == (12, 24, 1, 1)
    assert state['0.teacher_tail.0.weight'].shape == (8, 16, 1, 1)
    assert state['0.anchor.weight'].shape == (24, 16, 1, 1)
    assert not any('tail' in name for name in saved['state_dict'])


def test_layers_of_the_side_that_is_tailored_are_trained(streets, tmp_path, teacher):
    make = maker(streets, segmentor(), teacher, dict(ENTRY, tuning_point=99))
    runner, _ = train(make(tmp_path / 'run'))
    loss = runner.model.terms[0].losses[0]
    moved = runner.optim_wrapper.optimizer.state
    for name, parameter in loss.named_parameters():
        buffer = moved[parameter].get('momentum_buffer') if parameter in moved else None
        is_moved = buffer is not None and bool(buffer.abs().sum() > 0)
        assert is_moved == (not name.startswith('teacher_tail')), name


@pytest.mark.slow
def test_by_the_command(streets, tmp_path, teacher):
    for name, model in (('small', segmentor()), ('big', segmentor(channels=24))):
        config = segmentor_config(streets, model, 'unused')
        config.pop('work_dir')
        config.dump(str(tmp_path / f'{name}.py'))
    run_tool('train.py', 'small.py', '--teacher', 'big.py', '--teacher-checkpoint',
             teacher['checkpoint'], '--method', 'kt', cwd=tmp_path)
    folder = tmp_path / 'work_dirs' / 'small_kt'
    entries = Config.fromfile(str(folder / 'distill.py')).model.distill
    assert entries == [{key: value for key, value in one.items() if key != 'if_there'}
                       for one in METHODS['kt'].entries('segmentor')]
    saved = saved_at(folder / 'iter_2.pth')
    assert set(saved['mmkd']['losses']) == {'loss_features_kt'}
