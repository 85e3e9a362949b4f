"""Modules that learn through a teacher: replaced values, gradients, resume, and the saved file."""
import copy

import pytest
import torch
from conftest import (
    build,
    detector_config,
    distiller,
    retinanet,
    save_teacher,
    saved_at,
    segmentor,
    segmentor_config,
    train,
    two_stage,
)
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmseg.datasets import CityscapesDataset
from support.reppoints import HEAD, reppoints

import mmkd
from mmkd.core.prepared_file import read_prepared

TOKENS = dict(type='mmkd.MaskTokens', tokens=3)
STREETS = CityscapesDataset.METAINFO['classes']
CASES = {
    'one-stage': (retinanet, 'neck', 5),
    'head': (retinanet, 'cls', 5),
    'layer': (retinanet, 'bbox_head.cls_convs.0.conv', 5),
    'two-stage': (two_stage, 'neck', 5),
    'segmentor': (segmentor, 'cls', 1),
    'backbone': (segmentor, 'backbone', 4),
}


@pytest.fixture
def case(request, shapes, streets, tmp_path):
    """Return the model, a function that makes the config of a run, and the number of levels."""
    make, on, count = CASES[request.param]
    is_segmentor = make is segmentor
    teacher = save_teacher(tmp_path / 't.pth', make(), scope='mmseg' if is_segmentor else 'mmdet',
                           **(dict(classes=STREETS) if is_segmentor else {}))
    model = dict(type='mmkd.Prepare', teacher=teacher, module=TOKENS, on=on)

    def config(folder, **more):
        make_config = segmentor_config if is_segmentor else detector_config
        return make_config(streets if is_segmentor else shapes, copy.deepcopy(model),
                           str(tmp_path / folder), **more)

    return model, config, count


def every(*names):
    return pytest.mark.parametrize('case', names or list(CASES), indirect=True)


@every()
def test_modules_alone_are_trained_and_saved(case, tmp_path):
    model, config, count = case
    # Large enough steps that a loss near its maximum changes in float32.
    runner, losses = train(config('run', **{'optim_wrapper.optimizer.lr': 100.}))
    prepared = runner.model
    assert len(prepared.levels) == count
    before = saved_at(str(tmp_path / 't.pth'))['state_dict']
    after = prepared.teacher.model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert not any(module.training for module in prepared.teacher.model.modules())
    assert all(one.grad is None for one in prepared.teacher.model.parameters())
    own = dict(prepared.levels.named_parameters())
    grouped = [one for group in runner.optim_wrapper.param_groups for one in group['params']]
    assert {id(one) for one in grouped} == {id(one) for one in own.values()}
    dice = f'loss_{model["on"].replace(".", "_")}_dice'
    assert all(0 < one[dice] < count for one in losses)
    assert len({one[dice] for one in losses}) == 2  # the optimizer has changed the tokens
    name = 'iter_2.pth' if model['on'] in ('backbone', ) or count == 1 else 'epoch_1.pth'
    saved = saved_at(str(tmp_path / 'run' / name))
    assert set(saved['state_dict']) == {f'levels.{key}' for key in own}
    file = read_prepared(str(tmp_path / 'run' / 'prepared.pth'))
    assert file.about['type'] == 'MaskTokens'
    assert file.about['iterations'] == 2
    assert [state.keys() for state in file.states] == [
        level.state_dict().keys() for level in prepared.levels]
    torch.testing.assert_close(file.states[-1]['tokens'], prepared.levels[-1].tokens.detach(),
                               rtol=0, atol=0)


class Same(mmkd.losses.PreparedModule):
    """Multiplies by a factor that starts at 1 by default."""

    def __init__(self, factor=1.):
        super().__init__()
        self.start = factor

    def setup(self, channels):
        self.factor = torch.nn.Parameter(torch.full((channels, 1, 1), self.start))

    def forward(self, features):
        return features * self.factor, {}


@every('one-stage', 'two-stage', 'segmentor', 'head')
def test_task_loss_is_the_teachers_own_on_replaced_features(case, request):
    """Factors of 1 do not change the loss. Gradients equal finite differences."""
    is_double = 'two-stage' not in request.node.name  # RoIs are float32, and depend on the factors
    model, config, _ = case
    config = config('run')
    made = build(dict(model, module=dict(type=Same)), config.default_scope)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        loader = Runner.build_dataloader(config.train_dataloader, seed=0)
    data = made.data_preprocessor(next(iter(loader)), True)
    if is_double:
        made.double()

    def losses(network):
        torch.manual_seed(0)
        found = network(data['inputs'].to(made.levels[0].factor), data['data_samples'], mode='loss')
        total, _ = made.parse_losses(found)
        return total

    with torch.no_grad():
        torch.testing.assert_close(losses(made), losses(made.teacher.model))
    losses(made).backward()
    for level in made.levels:
        assert level.factor.grad.abs().sum() > 0
    if not is_double:
        return
    factor = made.levels[0].factor
    index = factor.grad.abs().flatten().argmax()
    step, values = 1e-6, []
    for sign in (1, -1):
        with torch.no_grad():
            factor.flatten()[index] += sign * step
            values.append(losses(made))
            factor.flatten()[index] -= sign * step
    torch.testing.assert_close((values[0] - values[1]) / (2 * step), factor.grad.flatten()[index],
                               rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize('model', [reppoints(), dict(retinanet(), type='FCOS', bbox_head=dict(
    HEAD, type='FCOSHead', strides=[8, 16, 32, 64, 128], norm_cfg=None, norm_on_bbox=True,
    loss_bbox=dict(type='GIoULoss')), train_cfg=None)], ids=['RepPoints', 'FCOS'])
def test_heads_compute_their_losses_as_in_training(model, shapes, tmp_path):
    """In eval mode, these two do not predict what their losses need."""
    made = build(dict(type='mmkd.Prepare', teacher=save_teacher(tmp_path / 't.pth', model),
                      module=dict(type=Same), on='neck'))
    config = detector_config(shapes, model, str(tmp_path / 'run'))
    with DefaultScope.overwrite_default_scope('mmdet'):
        loader = Runner.build_dataloader(config.train_dataloader, seed=0)
    data = made.data_preprocessor(next(iter(loader)), True)
    found = made(**data, mode='loss')
    network = made.teacher.model
    assert not any(module.training for module in network.modules())
    network.train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    expected = network(**data, mode='loss')
    assert set(found) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


@pytest.mark.slow
@every('one-stage', 'segmentor')
def test_killed_and_resumed(case, tmp_path):
    _, config, count = case
    is_segmentor = count == 1
    changes = {'train_cfg.max_iters' if is_segmentor else 'train_cfg.max_epochs':
               4 if is_segmentor else 2, 'train_cfg.val_interval': 9,
               'optim_wrapper.optimizer.momentum': 0.9,
               'custom_hooks': [dict(type='mmkd.ReseedHook')]}
    whole = config('whole', **changes)
    train(whole)
    part = config('part', **changes)
    if is_segmentor:
        part.train_cfg.max_iters = 2
    else:
        part.train_cfg.max_epochs = 1
    train(part)
    name = 'iter_2.pth' if is_segmentor else 'epoch_1.pth'
    rest = config('part', **changes, resume=True, load_from=str(tmp_path / 'part' / name))
    rest.experiment_name += '_rest'
    train(rest)
    files = [read_prepared(str(tmp_path / folder / 'prepared.pth')) for folder in ('whole', 'part')]
    assert [file.about['iterations'] for file in files] == [4, 4]
    for one, other in zip(files[0].states, files[1].states):
        assert all(torch.equal(one[key], other[key]) for key in one)


@every('one-stage')
def test_resume_of_another_teacher_or_module_is_refused(case, tmp_path):
    _, config, _ = case
    train(config('run'))
    start = dict(resume=True, load_from=str(tmp_path / 'run' / 'epoch_1.pth'))
    other = save_teacher(tmp_path / 'other.pth', retinanet(), seed=2)
    for number, (change, message) in enumerate([
            (dict(teacher=other), r'epoch_1.pth` cannot be resumed: it was trained with the '
             r'teacher t.pth \(\w{8}\), but the teacher of this run is other.pth'),
            (dict(module=dict(TOKENS, weighted=False)), 'cannot be resumed: its weights')]):
        again = config(f'again{number}', **start, **{'train_cfg.max_epochs': 2})
        again.model.update(change)
        with pytest.raises(ValueError, match=message):
            train(again)


@every('one-stage')
def test_predictions_are_those_of_replaced_features(case):
    model, _, _ = case
    plain = build(model)
    inputs = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        own, replaced = (one(inputs, mode='tensor') for one in (plain.teacher.model, plain))
    assert not torch.equal(own[0][0], replaced[0][0])
    assert 'forward' not in vars(plain.teacher.model.neck)


def test_what_cannot_be_prepared_is_refused(shapes, tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', retinanet())
    pair = save_teacher(tmp_path / 'p.pth', two_stage())
    for model, message in (
            (dict(teacher=teacher, on='nek'), 'no point `nek` in the teacher'),
            (dict(teacher=pair, on='cls'), '`cls` of the teacher predicts for RoIs, not on a map'),
            (dict(teacher=teacher, on='boxes'), 'level 0 of `boxes` is computed from the output '
                                                'of'),
            (dict(teacher=teacher, module=dict(type='mmkd.MSELoss')), 'not a PreparedModule'),
            (dict(teacher=teacher, module=dict(TOKENS, tokns=3)), 'has no argument `tokns`'),
            (dict(teacher=teacher, on=3), '`on` must be a point of the teacher'),
            (dict(teacher=dict(teacher, checkpoint='no.pth')), 'no teacher checkpoint at `no.pth`'),
    ):
        with pytest.raises((ValueError, TypeError, FileNotFoundError), match=message):
            mmkd.Prepare(**{'module': TOKENS, **model})
    config = detector_config(shapes, dict(type='mmkd.Prepare', teacher=teacher, module=TOKENS),
                             str(tmp_path / 'run'), classes=('square', 'disc', 'cross'))
    with pytest.raises(ValueError, match='the teacher has the classes .* the training data '):
        train(config)


@pytest.fixture(scope='module')
def prepared(shapes, tmp_path_factory):
    """Return a folder, a teacher with 24 channels, and the path of its trained tokens."""
    folder = tmp_path_factory.mktemp('prepared')
    teacher = save_teacher(folder / 't.pth', retinanet(channels=24))
    model = dict(type='mmkd.Prepare', teacher=teacher, module=TOKENS)
    train(detector_config(shapes, model, str(folder / 'run')))
    return folder, teacher, str(folder / 'run' / 'prepared.pth')


def second_stage(shapes, folder, teacher, **entry):
    entry = dict(dict(type='mmkd.MasKDLoss', on='neck', connector='conv'), **entry)
    return detector_config(shapes, distiller(retinanet(), teacher, entry), str(folder))


def test_second_stage(prepared, shapes, tmp_path):
    _, teacher, file = prepared
    runner, losses = train(second_stage(shapes, tmp_path / 'run', teacher, tokens=file, warmup=1))
    assert all(one['loss_neck_maskd'] > 0 for one in losses)
    term, = runner.model.terms
    assert [loss.file.digest for loss in term.losses] == [read_prepared(file).digest] * 5
    for loss, state in zip(term.losses, read_prepared(file).states):
        torch.testing.assert_close(loss.frozen.tokens, state['tokens'], rtol=0, atol=0)
    saved = saved_at(str(tmp_path / 'run' / 'epoch_1.pth'))
    assert set(saved['mmkd']) == {'connectors'}  # resuming reads the tokens from their file
    settings = saved['meta']['mmkd']['distill'][0]['settings']
    assert settings['file_hash'] == term.losses[0].file.digest
    trained = {id(one) for group in runner.optim_wrapper.param_groups for one in group['params']}
    assert not any(id(one) in trained for loss in term.losses for one in loss.buffers())


def test_levels_are_those_of_the_teacher(prepared, shapes, tmp_path):
    _, teacher, file = prepared
    runner, _ = train(second_stage(shapes, tmp_path / 'run', teacher, tokens=file, levels=[3, 1]))
    states = read_prepared(file).states
    for loss, number in zip(runner.model.terms[0].losses, (3, 1)):
        assert torch.equal(loss.frozen.tokens, states[number]['tokens'])


@pytest.mark.slow
def test_a_file_that_does_not_fit_is_refused(prepared, shapes, tmp_path):
    folder, teacher, file = prepared
    other = save_teacher(tmp_path / 'other.pth', retinanet(channels=24), seed=5)
    narrow = save_teacher(tmp_path / 'narrow.pth', retinanet(channels=16))
    copied = save_teacher(tmp_path / 'renamed.pth', retinanet(channels=24))  # equal weights
    checkpoint = str(folder / 'run' / 'epoch_1.pth')
    (tmp_path / 'text.pth').write_text('no weights')
    (tmp_path / 'empty.pth').write_bytes(b'')
    for number, (who, entry, message) in enumerate([
            (teacher, {}, 'MasKDLoss needs `tokens`, the file of its first stage: write it by '
             '`python tools/train.py TEACHER.py --prepare maskd`, which writes prepared.pth'),
            (teacher, dict(tokens='no.pth'), 'no file at `no.pth`'),
            (teacher, dict(tokens=checkpoint), 'epoch_1.pth` is not a file of a prepared module: '
                                               'it contains .* as a checkpoint does; give the file '
                                               'that mmkd.Prepare writes'),
            (teacher, dict(tokens=str(tmp_path / 'text.pth')), 'not a readable file of weights'),
            (teacher, dict(tokens=str(tmp_path / 'empty.pth')), 'not a readable file of weights: '
                                                                'EOFError; give the file'),
            (other, dict(tokens=file), r'was trained with the teacher t.pth \(\w{8}\), but '
             r'the teacher of this run is other.pth \(\w{8}\); use a file trained with this '
             'teacher'),
            (narrow, dict(tokens=file), r'was trained at `neck` with \[24, 24, 24, 24, 24\] '
             'channels by level, but level 0 of the teacher has 16 here'),
            (teacher, dict(tokens=file, type='mmkd.FreeKDLoss'), 'prepared.pth` contains '
                                                                 'MaskTokens, '
             'but FreeKDLoss needs FrequencyPrompts'),
            (teacher, dict(tokens=file, on='bbox_head.cls_convs.0.conv'), 'trained at `neck`; '
                                                                          'train'),
    ]):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            train(second_stage(shapes, tmp_path / f'run{number}', who, **entry))
    train(second_stage(shapes, tmp_path / 'copied', copied, tokens=file))
