"""A resumed run is exact or raises an error; differences from the checkpoint are logged."""
import copy
import importlib
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import detector_config, distiller, retinanet, save_teacher, saved_at, train
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from mmkd.files.optimization import check_optimizer
from mmkd.hooks import CheckpointHook
from mmkd.version import __version__

KD = dict(type='mmkd.KDLoss', on='cls', tau=2.)
HINT = dict(type='mmkd.MSELoss', on='neck')


def config_of(shapes, folder, model, epochs=1, **changes):
    return detector_config(shapes, model, str(folder / 'run'), **{
        'train_cfg.max_epochs': epochs, 'train_cfg.val_interval': 100,
        'default_hooks.checkpoint.type': 'mmkd.CheckpointHook',
        'optim_wrapper.optimizer.momentum': 0.9, **changes})


@pytest.fixture(scope='module')
def first(shapes, tmp_path_factory):
    """Folder of a run of one epoch with two terms."""
    folder = tmp_path_factory.mktemp('first')
    teacher = save_teacher(folder / 'teacher.pth', retinanet(width=12))
    train(config_of(shapes, folder, distiller(retinanet(), teacher, KD, HINT)))
    return folder


@pytest.fixture
def started(first, tmp_path):
    """Copy the first run; return the entry of its teacher."""
    shutil.copytree(first, tmp_path, dirs_exist_ok=True)
    return dict(config=dict(default_scope='mmdet', model=retinanet(width=12)),
                checkpoint=str(tmp_path / 'teacher.pth'))


def go_on(shapes, folder, model, epoch=1, **changes):
    """Resume and train one more epoch; return the warnings and the record in the checkpoint."""
    before = {path: path.read_text() for path in (folder / 'run').rglob('*.log')}
    config = config_of(shapes, folder, model, epoch + 1, resume=True,
                       load_from=str(folder / 'run' / f'epoch_{epoch}.pth'), **changes)
    train(config)
    # Runs that start in the same second write to the same log file.
    text = ''.join(path.read_text().removeprefix(before.get(path, ''))
                   for path in (folder / 'run').rglob('*.log'))
    lines = [line.split('iteration 2: ' if epoch == 1 else 'iteration 4: ')[1]
             for line in text.splitlines() if 'differs from the checkpoint' in line]
    meta = saved_at(folder / 'run' / f'epoch_{epoch + 1}.pth')['meta']
    return lines, meta.get('mmkd')


def test_same_config_gives_no_message(started, shapes, tmp_path):
    lines, record = go_on(shapes, tmp_path, distiller(retinanet(), started, KD, HINT))
    assert lines == []
    assert (record['from'], record['to']) == (0, 4)
    assert 'history' not in record
    assert record['distill'][0]['settings']['tau'] == 2.


def test_changed_code_of_a_loss_is_named(shapes, tmp_path, monkeypatch):
    own = tmp_path / 'resumed_loss.py'
    own.write_text("""from mmkd.losses import LOSSES, MSELoss

@LOSSES.register
class ResumedLoss(MSELoss):
    pass
""")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module('resumed_loss')
    model = distiller(retinanet(), save_teacher(tmp_path / 'teacher.pth', retinanet()),
                      dict(type='mmkd.ResumedLoss', on='neck'))
    train(config_of(shapes, tmp_path, model))
    assert go_on(shapes, tmp_path, model)[0] == []
    own.write_text(own.read_text().replace('pass', 'scale = 2'))
    importlib.reload(module)
    lines, record = go_on(shapes, tmp_path, model, 2)
    assert lines == ['the module of the loss of the entry `loss_neck_resumed` has changed']
    assert record['from'] == 4


def test_another_teacher_and_other_entries_are_named(started, shapes, tmp_path):
    """The teacher's file is replaced, a weight is changed, an entry is removed and one is added."""
    before = saved_at(tmp_path / 'run' / 'epoch_1.pth')['meta']['mmkd']
    save_teacher(tmp_path / 'teacher.pth', retinanet(width=12), seed=2)
    entries = [dict(KD, loss_weight=200., tau=4.), dict(type='mmkd.DISTLoss', on='cls')]
    lines, record = go_on(shapes, tmp_path, distiller(retinanet(), started, *entries, HINT))
    hashes = [one['networks']['teacher']['checkpoint_hash'] for one in (before, record)]
    assert lines == [
        f'the checkpoint of `teacher` was teacher.pth ({hashes[0][:8]}) and is teacher.pth '
        f'({hashes[1][:8]}), of the same name but another content, now',
        '`tau` of the entry `loss_cls_kd` was 2.0 and is 4.0 now',
        '`loss_weight` of the entry `loss_cls_kd` was 1.0 and is 200.0 now',
        'the entry `loss_cls_dist` of `distill` is new']
    assert (record['from'], record['to']) == (2, 4)
    assert record['history'] == [before]
    assert (before['from'], before['to']) == (0, 2)


def test_plain_runs_keep_the_history(started, shapes, tmp_path):
    """Resume as the plain student with MMEngine's own hook, then with a teacher again."""
    path = tmp_path / 'run' / 'epoch_1.pth'
    before = saved_at(path)['meta']['mmkd']
    distilled = copy.deepcopy(before)
    checkpoint = saved_at(path)
    # The momentum of the connectors does not fit the optimizer of a plain run.
    group, = checkpoint['optimizer']['param_groups']
    own = len([one for one in checkpoint['state_dict'] if 'running' not in one
               and 'num_batches' not in one])
    for number in group['params'][own:]:
        checkpoint['optimizer']['state'].pop(number, None)
    group['params'] = group['params'][:own]
    torch.save(checkpoint, path)
    lines, record = go_on(shapes, tmp_path, retinanet(),
                          **{'default_hooks.checkpoint.type': 'CheckpointHook'})
    assert lines == ['the network `teacher` (FrozenTeacher, teacher.pth) is not in the config any '
                     'more', 'the entry `loss_cls_kd` of `distill` is not in the config any more',
                     'the entry `loss_neck_mse` of `distill` is not in the config any more']
    assert record['distill'] == []
    assert record['networks'] == {}
    assert (record['from'], record['to'], record['mmkd']) == (2, 4, __version__)
    assert record['history'] == [distilled]
    lines, record = go_on(shapes, tmp_path, distiller(retinanet(), started, KD), 2)
    assert lines == ['the network `teacher` (FrozenTeacher, teacher.pth) is new',
                     'the entry `loss_cls_kd` of `distill` is new']
    assert [(one['from'], one['to'], len(one['distill'])) for one in (
        *record['history'], record)] == [(0, 2, 2), (2, 4, 0), (4, 6, 1)]


def test_a_plain_run_has_no_history(shapes, tmp_path):
    train(config_of(shapes, tmp_path, retinanet()))
    lines, record = go_on(shapes, tmp_path, retinanet())
    assert (lines, record) == ([], None)


def test_record_of_an_earlier_version_starts_the_history(started, shapes, tmp_path):
    path = tmp_path / 'run' / 'epoch_1.pth'
    checkpoint = saved_at(path)
    record = checkpoint['meta']['mmkd']
    old = dict(mmkd='0.6.0', torch='2.0', networks=record['networks'], distill=[
        {key: value for key, value in one.items() if key != 'settings'}
        for one in record['distill']])
    checkpoint['meta']['mmkd'] = old
    torch.save(checkpoint, path)
    lines, record = go_on(shapes, tmp_path, distiller(retinanet(), started, KD, HINT))
    assert lines == []  # another version of mmkd is not reported, but it adds a record
    assert record['history'] == [{**old, 'from': 0, 'to': 2}]
    assert (record['from'], record['to']) == (2, 4)


@pytest.mark.slow
def test_the_hook_does_the_same(shapes, tmp_path):
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet(width=12))

    def hook(weight):
        return [dict(type='mmkd.DistillHook', teacher=teacher,
                     distill=[dict(KD, loss_weight=weight)])]

    train(config_of(shapes, tmp_path, retinanet(), custom_hooks=hook(2.)))
    lines, record = go_on(shapes, tmp_path, retinanet(), custom_hooks=hook(3.))
    assert lines == ['`loss_weight` of the entry `loss_cls_kd` was 2.0 and is 3.0 now']
    assert [one['distill'][0]['loss_weight'] for one in (*record['history'], record)] == [2., 3.]


@pytest.mark.slow
def test_companions_are_named(shapes, tmp_path):
    def mutual(width, **partner):
        return dict(type='mmkd.Distiller', student=retinanet(), companions=dict(other=dict(
            config=dict(model=retinanet(width=width)), **partner)),
            distill=[dict(KD, between=['student', 'other'])])

    train(config_of(shapes, tmp_path, mutual(12)))
    lines, _ = go_on(shapes, tmp_path, mutual(12, loss_weight=0.5))
    assert lines == ['`loss_weight` of `other` was 1.0 and is 0.5 now']
    # A state that does not fit is an error.
    with pytest.raises(ValueError, match='the checkpoint contains another partner: .* differ in '
                                         'name '
                       'or shape'):
        go_on(shapes, tmp_path, mutual(8), 2)


# --- the student itself --------------------------------------------------------------------------

@pytest.mark.parametrize('way', ['distilled', 'protected', 'imported'])
def test_a_student_of_other_shapes_is_refused(started, shapes, tmp_path, way):
    """MMEngine alone would continue with random weights of the backbone."""
    model = retinanet(width=16) if way != 'distilled' else distiller(
        retinanet(width=16), started, KD, HINT)
    config = config_of(shapes, tmp_path, model, 2, resume=True, **{
        'load_from': str(tmp_path / 'run' / 'epoch_1.pth'),
        'default_hooks.checkpoint.type': 'CheckpointHook'})
    runner = Runner.from_cfg(config)
    if way == 'protected':
        CheckpointHook.protect(runner)
    with pytest.raises(ValueError, match=r'(?s)epoch_1.pth` cannot be resumed: its weights do not '
                       r'fit the student in the config.*backbone.bn1.bias: \(8,\) in the '
                       r'file, \(16,\) in the model.*`load_from`, without `resume`'):
        runner.train()
    assert not (tmp_path / 'run' / 'epoch_2.pth').exists()


def test_load_from_stays_lenient(started, shapes, tmp_path):
    """With another neck, weights that fit are loaded, and the others stay random."""
    train(config_of(shapes, tmp_path, retinanet(channels=24), 1, **{
        'load_from': str(tmp_path / 'run' / 'epoch_1.pth')}))


# --- values of a wrong type ----------------------------------------------------------------------

def put(value, *keys):
    def change(checkpoint):
        for key in keys[:-1]:
            checkpoint = checkpoint[key]
        checkpoint[keys[-1]] = value

    return change


def each(kind, change):
    def change_all(checkpoint):
        for key, value in checkpoint[kind].items():
            checkpoint[kind][key] = change(value)

    return change_all


def history_of_words(checkpoint):
    scalar = next(iter(checkpoint['message_hub']['log_scalars'].values()))
    scalar._log_history = np.array([[1.], [2.]])


KINDS = {
    'epoch is a word': (put('1', 'meta', 'epoch'), r"`meta\['epoch'\]` is '1' \(str\)"),
    'epoch is a flag': (put(True, 'meta', 'epoch'), r"`meta\['epoch'\]` is True"),
    'epoch is no whole number': (put(1.5, 'meta', 'epoch'), r"`meta\['epoch'\]` is 1.5"),
    'iter is negative': (put(-1, 'meta', 'iter'), r"`meta\['iter'\]` is -1"),
    'epoch beyond the schedule': (put(10**9, 'meta', 'epoch'), (
        r"`meta\['epoch'\]` is 1000000000, but the schedule ends with 2 "
        r'\(`train_cfg.max_epochs`\)')),
    'seed is a word': (put('x', 'meta', 'seed'), r"`meta\['seed'\]` is 'x'"),
    'record is a list': (put([], 'meta', 'mmkd'), r"`meta\['mmkd'\]` has an unknown format"),
    'record of numbers': (put(dict(distill=[1], networks={}), 'meta', 'mmkd'),
                          r"`meta\['mmkd'\]` has an unknown format"),
    'history of numbers': (put([1], 'meta', 'mmkd', 'history'),
                           r"`meta\['mmkd'\]` has an unknown format"),
    'average is a list': (put([], 'ema_state_dict'), '`ema_state_dict` is .*a dict of tensors'),
    'average of words': (put(dict(a='x'), 'ema_state_dict'), r"`ema_state_dict\['a'\]` is 'x'"),
    'average counts in halves': (put(dict(steps=torch.tensor(.5)), 'ema_state_dict'),
                                 r"`ema_state_dict\['steps'\]` is .*one whole number"),
    'average of nothing': (put(dict(steps=torch.tensor(5)), 'ema_state_dict'),
                           '`ema_state_dict` is not the average of its `state_dict`'),
    'log is a list': (put([], 'message_hub', 'log_scalars'),
                      r"`message_hub\['log_scalars'\]` is \[\]"),
    'log of two columns': (history_of_words, r"`message_hub\['log_scalars'\].*history of numbers"),
    'resumed keys are words': (put('yes', 'message_hub', 'resumed_keys', 'iter'),
                               r"`message_hub\['resumed_keys'\]\['iter'\]` is 'yes'"),
    'best score is a word': (put('0.5', 'message_hub', 'runtime_info', 'best_score'),
                             r"\['best_score'\]` is '0.5' \(str\), but must be a number"),
    'kept ones are paths': (put(['/etc'], 'message_hub', 'runtime_info', 'keep_ckpt_ids'),
                            r"\['keep_ckpt_ids'\]` is \['/etc'\]"),
    'optimizer of numbers': (put(dict(state={0: 3}, param_groups=[]), 'optimizer'),
                             'has no parameter groups'),
    'weights are integers': (each('state_dict', torch.Tensor.int),
                             'are not floating-point numbers: .*torch.int32.*use float32'),
    'weights are lists': (each('state_dict', torch.Tensor.tolist), 'no weight of the checkpoint'),
    'a weight is gone': (lambda checkpoint: checkpoint['state_dict'].pop('backbone.conv1.weight'),
                         'missing in the file .backbone.conv1.weight'),
    'a weight is no number': (
        lambda checkpoint: checkpoint['state_dict']['backbone.conv1.weight'].fill_(float('nan')),
        'infinite or NaN values in backbone.conv1.weight'),
    'momentum is no number': (
        lambda checkpoint: checkpoint['optimizer']['state'][3]['momentum_buffer'].fill_(
            float('inf')), 'such as `optimizer.state.3.momentum_buffer`'),
    'momentum of another shape': (
        lambda checkpoint: checkpoint['optimizer']['state'][3].update(
            momentum_buffer=torch.ones(2)), r'`momentum_buffer` of the optimizer has the shape'),
    'schedule is a word': (put(['x'], 'param_schedulers'), r"`param_schedulers\[0\]` is 'x'"),
    'another schedule': (put([dict(last_step=3)], 'param_schedulers'),
                         r'`param_schedulers\[0\]` belongs to another schedule'),
    'two schedules': (lambda checkpoint: checkpoint['param_schedulers'].append(
        checkpoint['param_schedulers'][0]), 'it has 2 schedules in `param_schedulers`, but the '
                                            'config has '
        '1'),
    'no schedule': (lambda checkpoint: checkpoint.pop('param_schedulers'),
                    'it has 0 schedules in `param_schedulers`, but the config has 1'),
    'step is a word': (put('3', 'param_schedulers', 0, 'last_step'),
                       "to another schedule: `last_step` is '3'"),
}


@pytest.fixture(scope='module')
def scheduled(shapes, tmp_path_factory):
    """A run of one epoch with a learning rate schedule."""
    folder = tmp_path_factory.mktemp('scheduled')
    teacher = dict(config=dict(default_scope='mmdet', model=retinanet(width=12)), checkpoint=None)
    model = distiller(retinanet(), teacher, KD)
    schedule = [dict(type='LinearLR', start_factor=0.5, by_epoch=False, end=3)]
    train(config_of(shapes, folder, model, param_scheduler=schedule))
    return folder, model, schedule


@pytest.mark.parametrize('case', KINDS)
def test_values_of_a_wrong_type_are_refused(scheduled, shapes, tmp_path, case):
    folder, model, schedule = scheduled
    change, message = KINDS[case]
    checkpoint = saved_at(folder / 'run' / 'epoch_1.pth')
    change(checkpoint)
    path = tmp_path / 'changed.pth'
    torch.save(checkpoint, path)
    config = config_of(shapes, tmp_path, model, 2, resume=True, load_from=str(path),
                       param_scheduler=schedule)
    with pytest.raises(ValueError, match=f'(?s)changed.pth.*{message}|{message}') as info:
        Runner.from_cfg(config).train()
    assert 'changed.pth' in str(info.value)
    assert not list((tmp_path / 'run').glob('*.pth'))


def test_schedule_missing_in_the_config_is_refused(scheduled, shapes, tmp_path):
    folder, model, _ = scheduled
    config = config_of(shapes, tmp_path, model, 2, resume=True,
                       load_from=str(folder / 'run' / 'epoch_1.pth'))
    with pytest.raises(ValueError, match='it has 1 schedules in `param_schedulers`, but the config '
                                         'has 0'):
        Runner.from_cfg(config).train()


def test_different_random_teacher_is_logged(scheduled, shapes, tmp_path, capsys):
    """The weights are in no file, so only the same seed gives the same teacher."""
    folder, model, schedule = scheduled
    config = config_of(shapes, tmp_path, model, 2, resume=True, param_scheduler=schedule,
                       load_from=str(folder / 'run' / 'epoch_1.pth'))
    config.randomness = dict(seed=7)
    train(config)
    told = '`random_weights` of `teacher` was '
    assert told in capsys.readouterr().out
    config.work_dir = str(tmp_path / 'alike')
    config.randomness = dict(seed=saved_at(folder / 'run' / 'epoch_1.pth')['meta']['seed'])
    train(config)
    assert told not in capsys.readouterr().out


def test_a_run_that_has_ended_says_so(scheduled, shapes, tmp_path):
    folder, model, schedule = scheduled
    config = config_of(shapes, tmp_path, model, 1, resume=True, param_scheduler=schedule,
                       load_from=str(folder / 'run' / 'epoch_1.pth'))
    _, losses = train(config)
    assert losses == []
    log, = (tmp_path / 'run').rglob('*.log')
    assert ('this run is complete: 1 of 1 epochs are done; to continue training, raise '
            '`train_cfg.max_epochs`') in log.read_text()


def test_schedule_that_is_not_resumed_is_named(scheduled, shapes, tmp_path):
    folder, model, schedule = scheduled
    config = config_of(shapes, tmp_path, model, 2, resume=True, param_scheduler=[
        dict(schedule[0], start_factor=0.1)], load_from=str(folder / 'run' / 'epoch_1.pth'))
    train(config)
    log, = (tmp_path / 'run').rglob('*.log')
    assert 'its `start_factor` is 0.5 in the checkpoint, and 0.1 in the config' in log.read_text()


@pytest.mark.slow
def test_resume_without_the_average_is_logged(shapes, tmp_path):
    hooks = [dict(type='EMAHook', momentum=0.5)]
    train(config_of(shapes, tmp_path, retinanet(), custom_hooks=hooks))
    config = config_of(shapes, tmp_path, retinanet(), 2, resume=True,
                       load_from=str(tmp_path / 'run' / 'epoch_1.pth'))
    train(config)
    log = max((tmp_path / 'run').rglob('*.log'), key=lambda path: path.stat().st_mtime)
    assert 'trained with EMAHook, but this run has none: it continues from the moving average' in (
        log.read_text())
    # With the hook, the resume is exact, and no message is logged.
    shutil.rmtree(tmp_path / 'run')
    train(config_of(shapes, tmp_path, retinanet(), custom_hooks=hooks))
    train(config_of(shapes, tmp_path, retinanet(), 2, custom_hooks=hooks, resume=True,
                    load_from=str(tmp_path / 'run' / 'epoch_1.pth')))
    assert not any('this run has none' in log.read_text()
                   for log in (tmp_path / 'run').rglob('*.log'))


def test_new_optimizer_flags_of_torch_are_no_difference():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1, momentum=0.9)
    runner = SimpleNamespace(optim_wrapper=OptimWrapper(optimizer))
    checkpoint = dict(optimizer=copy.deepcopy(optimizer.state_dict()))
    group, = checkpoint['optimizer']['param_groups']
    for switch in ('nesterov', 'foreach', 'fused', 'maximize'):
        del group[switch]
    check_optimizer(runner, checkpoint)
    del group['momentum']
    with pytest.raises(ValueError, match='trained with another optimizer'):
        check_optimizer(runner, checkpoint)
