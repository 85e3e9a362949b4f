"""tools/sweep_loop.py and its neighbours: budget, what a kill leaves, which points are stored."""
import importlib
import json
import os
import time
from types import SimpleNamespace

import pytest
from mmengine.config import Config
from support.tools import TOOLS

optuna = pytest.importorskip('optuna')


@pytest.fixture
def tool(monkeypatch, tmp_path):
    """Imports a module of tools/; the current folder is that of the test."""
    monkeypatch.syspath_prepend(TOOLS)
    monkeypatch.chdir(tmp_path)
    return importlib.import_module


@pytest.fixture
def loop(tool, monkeypatch):
    """sweep_loop, whose trials end at once with a score of 0.5 and are listed in `loop.run`."""
    found, trial = tool('sweep_loop'), tool('sweep_trial')
    run = []

    def run_trial(config, folder, is_over, is_bad, options=()):
        run.append(os.path.basename(folder))
        path = os.path.join(folder, '2026', 'vis_data', 'scalars.json')
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w') as file:
            file.write(json.dumps({'coco/bbox_mAP': 0.5, 'step': 1}) + '\n')
        return trial.Outcome(trial.DONE, 1.)

    monkeypatch.setattr(found, 'run_trial', run_trial)
    monkeypatch.setattr(found, 'run', run, raising=False)
    return found


def sweep_of(loop, space, *spaces, **options):
    """A sweep over some spaces; the student alone is trained by default."""
    spaces = spaces or (space.Space('student', []), )
    args = dict(work_dir='.', startup=5, weights=[0.1, 10.], temperatures=[0.25, 4.], hours=1.,
                trials=1, seeds=[0], repeat=0, holdout=0, variants=4, amp=False)
    return loop.Sweep(SimpleNamespace(**{**args, **options}), SimpleNamespace(
        spaces={one.method: one for one in spaces}, student='s.py', plain='s.py', imports=[],
        cached="dict(type='mmkd.CachedTeacher')", running="dict(type='mmkd.FrozenTeacher')",
        interval=1, about=dict(student='s.py', teacher='t.py', hours=1., chosen_on='x')))


def test_a_request_that_a_kill_left_is_not_taken_for_the_next_one(loop, tool):
    space = tool('sweep_space')
    before = sweep_of(loop, space, seeds=[0, 1])
    before.study.enqueue_trial(dict(seed=1), dict(student=True, folder='old'))  # and killed
    sweep = sweep_of(loop, space, seeds=[0, 1])
    sweep.run()
    assert loop.run == ['trial000', 'trial001']
    assert [(one.folder, one.seed) for one in sweep.trials()] == [('trial000', 0), ('trial001', 1)]
    waiting = optuna.trial.TrialState.WAITING
    assert not sweep.study.get_trials(states=(waiting, ))


def test_a_kill_while_checkpoints_are_removed_leaves_a_trial_that_is_cut(loop, tool, monkeypatch):
    space, trial = tool('sweep_space'), tool('sweep_trial')
    monkeypatch.setattr(loop, 'run_trial', lambda *given: trial.Outcome(trial.CUT, 1.))

    def killed(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, 'remove_checkpoints', killed)
    with pytest.raises(KeyboardInterrupt):
        sweep_of(loop, space).run()
    assert [one.state for one in sweep_of(loop, space).trials()] == ['cut']


class Killed:
    """A trial of Optuna in a process that is killed after some parameters."""

    def __init__(self, trial, count):
        self.trial, self.left, self.user_attrs = trial, count, trial.user_attrs

    def suggest_categorical(self, *given):
        return self.unless_killed(self.trial.suggest_categorical, *given)

    def suggest_float(self, *given, **named):
        return self.unless_killed(self.trial.suggest_float, *given, **named)

    def unless_killed(self, suggest, *given, **named):
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return suggest(*given, **named)


def test_a_trial_that_was_killed_before_its_last_parameter_is_not_listed(loop, tool):
    space = tool('sweep_space')
    kd = space.Space('kd', [dict(type='mmkd.KDLoss', on='cls')])
    sweep = sweep_of(loop, space, kd)
    setting = space.Setting('kd', 2., 3.)
    for count in range(4):
        sweep.study.enqueue_trial(*loop.planned(setting, 0, folder='trial000'))
        trial = Killed(sweep.study.ask(), count)
        with pytest.raises(KeyboardInterrupt):
            space.suggested(trial, sweep.plan.spaces, [0], (0.1, 10.), (0.25, 4.))
    assert sweep.trials() == []


def test_storing_outputs_is_part_of_the_budget(loop, tool, monkeypatch):
    """Its seconds are saved while it runs; what is not complete is not marked so."""
    space, trial = tool('sweep_space'), tool('sweep_trial')
    kd = space.Space('kd', [dict(type='mmkd.KDLoss', on='cls')])
    sweep = sweep_of(loop, space, kd, hours=100 / 3600)
    spent = []

    def fill(config, folder, is_over):
        for seconds in (40., 80., 120.):
            late = is_over(seconds)
            spent.append(sweep.spent())
            if late:
                return trial.Outcome(trial.LATE, seconds + 1)
        raise AssertionError('the budget did not end it')

    monkeypatch.setattr(loop, 'fill', fill)
    sweep.run()
    assert spent == [40., 80., 120.]
    assert sweep.spent() == 121.
    assert loop.run == []  # no trial
    # With more hours it goes on, and the seconds are added.
    more = sweep_of(loop, space, kd, hours=200 / 3600)
    monkeypatch.setattr(loop, 'fill', lambda config, folder, is_over: trial.Outcome(
        trial.DONE, 9.) if not is_over(9.) else None)
    more.fill()
    assert more.spent() == 130.
    more.fill()  # complete
    assert more.spent() == 130.


def test_a_tool_is_ended_with_the_budget(tool, monkeypatch, tmp_path):
    trial = tool('sweep_trial')
    monkeypatch.setattr(trial, 'TOOLS', str(tmp_path))
    monkeypatch.setattr(trial, 'POLL', 0.01)
    pid = tmp_path / 'pid'
    (tmp_path / 'cache_teacher.py').write_text(
        'import os, sys, time\n'
        "open('pid.part', 'w').write(str(os.getpid()))\n"
        "os.rename('pid.part', 'pid')\n"
        'time.sleep(3600 * (sys.argv[1] == "long"))\n'
        'sys.exit(sys.argv[1] == "bad")\n')
    begun = time.monotonic()
    done = trial.fill('long', 'log', lambda seconds: pid.exists())
    assert done.state == trial.LATE
    assert 0 < done.seconds <= time.monotonic() - begun
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert trial.fill('short', 'log', lambda seconds: False).state == trial.DONE
    with pytest.raises(ValueError, match='outputs of the teacher could not be stored; the log is '):
        trial.fill('bad', 'log', lambda seconds: False)


@pytest.mark.parametrize(('config', 'state', 'why'), [
    ('ends', 'finished', ''), ('bad', 'cut', ''), ('late', 'interrupted', ''),
    ('fails', 'failed', 'no data'), ('silent', 'failed', 'no validation had a score')])
def test_how_a_training_ends(tool, monkeypatch, tmp_path, config, state, why):
    """Stands for tools/train.py: it writes one score, and ends or waits."""
    trial = tool('sweep_trial')
    monkeypatch.setattr(trial, 'TRAIN_TOOL', str(tmp_path / 'train.py'))
    monkeypatch.setattr(trial, 'POLL', 0.01)
    (tmp_path / 'train.py').write_text(
        'import os, sys, time\n'
        'folder = os.path.join(sys.argv[3], "1", "vis_data")\n'
        'os.makedirs(folder)\n'
        'if sys.argv[1] == "fails":\n'
        '    sys.exit("no data")\n'
        'if sys.argv[1] != "silent":\n'
        '    with open(os.path.join(folder, "scalars.json"), "w") as file:\n'
        """        file.write('{"coco/bbox_mAP": 0.25, "step": 1}\\n')\n"""
        'time.sleep(3600 * (sys.argv[1] in ("bad", "late")))\n')
    curves = []
    done = trial.run_trial(
        config, 'run', lambda seconds: config == 'late' and bool(curves),
        lambda curve: curves.append(list(curve)) or config == 'bad')
    assert (done.state, done.seconds > 0) == (state, True)
    assert why in done.why
    assert bool(why) == bool(done.why)
    # Each validation is judged once.
    assert curves == ([] if why else [[(1, 0.25)]])


def test_stored_points_are_those_of_on_and_also(loop, tool, monkeypatch):
    """DSD compares further points: its outputs are stored beside those of KD."""
    space, trial = tool('sweep_space'), tool('sweep_trial')
    kd = space.Space('kd', [dict(type='mmkd.KDLoss', on='cls')])
    dist = space.Space('dist', [dict(type='mmkd.DISTLoss', on=dict(
        student='aux', teacher='cls'))])
    dsd = space.Space('dsd', [dict(type='mmkd.DSDLoss', on='cls', also=['aux', 'features']),
                              dict(type='mmkd.MSELoss', on='neck')])
    assert [one.points for one in (kd, dist, dsd)] == [
        ('cls', ), ('cls', ), ('aux', 'cls', 'features', 'neck')]
    # The points that a loss names itself.
    assert space.Space('crosskd', [dict(type='mmkd.DSDLoss', on='cls')]).points == (
        'cls', *space.TermSpec.of(dict(type='mmkd.DSDLoss', on='cls')).also)
    filled = []
    monkeypatch.setattr(loop, 'fill', lambda config, folder, is_over: filled.append(
        os.path.basename(folder)) or trial.Outcome(trial.DONE, 0.))
    sweep_of(loop, space, dsd, kd, dist).fill()
    assert filled == ['aux_cls_features_neck', 'cls']


@pytest.mark.parametrize(('schedule', 'interval', 'by_epoch'), [
    (dict(type='EpochBasedTrainLoop', max_epochs=3, val_interval=2), 1, True),
    (dict(by_epoch=True, max_epochs=3), 1, True),
    (dict(max_epochs=3), 1, True),
    (dict(type='IterBasedTrainLoop', max_iters=30, val_interval=10), 10, False),
    (dict(type='IterBasedTrainLoop', max_iters=3000), 1000, False),
    (dict(by_epoch=False, max_iters=30, val_interval=10), 10, False),
    (dict(by_epoch=False, max_iters=3000), 1000, False)])
def test_when_trials_validate_and_save(tool, schedule, interval, by_epoch):
    """As MMEngine reads `train_cfg`."""
    config = tool('sweep_space').prepare_student(Config(dict(
        model=dict(), train_cfg=schedule, train_dataloader=dict(dataset=dict(pipeline=[])))), 0)
    assert config.train_cfg == dict(schedule, val_interval=interval)
    assert config.default_hooks.checkpoint == dict(
        type='CheckpointHook', by_epoch=by_epoch, interval=interval, max_keep_ckpts=1)
