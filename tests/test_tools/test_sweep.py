"""tools/sweep.py: which trials it runs, what it stores, how it goes on after a kill."""
import copy
import importlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from statistics import mean, stdev
from types import SimpleNamespace

import pytest
from conftest import detector_config, retinanet, save_teacher, two_stage
from mmengine.config import Config
from support.tools import TOOLS
from support.tools import run_tool as run

pytest.importorskip('optuna')


@pytest.fixture(scope='module')
def pair(shapes, tmp_path_factory):
    """Plain configs of a student and a teacher, and the weights of the teacher."""
    folder = tmp_path_factory.mktemp('pair')
    for name, width in (('student', 8), ('teacher', 12)):
        config = detector_config(shapes, retinanet(width=width), 'unused',
                                 **{'train_cfg.max_epochs': 2})
        for key in ('work_dir', 'experiment_name'):
            config.pop(key)
        config.dump(str(folder / f'{name}.py'))
    save_teacher(folder / 'teacher.pth', retinanet(width=12))
    return folder


PAIR = ['student.py', '--teacher', 'teacher.py', '--teacher-checkpoint', 'teacher.pth']


@pytest.fixture(scope='module')
def inspected(pair):
    from mmkd.inspection import inspect_pair
    return inspect_pair(*(Config.fromfile(pair / f'{name}.py') for name in ('student', 'teacher')))


class Trainer:
    """Stands for tools/train.py: it writes the scores that a function says, epoch by epoch."""

    def __init__(self, scores, seconds=60.):
        self.scores, self.seconds, self.configs = scores, seconds, {}
        self.stop_at = None

    def __call__(self, path, folder, is_over, is_bad, options=()):
        name = os.path.basename(folder)
        if len(self.configs) == self.stop_at:
            raise KeyboardInterrupt
        self.configs[name] = config = Config.fromfile(path)
        curve = []
        log = os.path.join(folder, '2026', 'vis_data', 'scalars.json')
        os.makedirs(os.path.dirname(log), exist_ok=True)
        with open(log, 'w') as file:
            for epoch, score in enumerate(self.scores(config), 1):
                if score is None:  # nothing was detected
                    continue
                curve.append((epoch, score))
                file.write(json.dumps({'coco/bbox_mAP': score, 'step': epoch}) + '\n')
                file.flush()
                if is_bad(curve):
                    return self.outcome('cut', self.seconds * epoch / 4)
                if is_over(self.seconds * epoch / 4):
                    return self.outcome('interrupted', self.seconds * epoch / 4)
        open(os.path.join(folder, 'epoch_4.pth'), 'w').close()
        return self.outcome('finished', self.seconds)


def terms(config):
    return config.model.get('distill', [])


@pytest.fixture
def tool(monkeypatch, tmp_path):
    """Imports a module of tools/; the current folder is that of the test."""
    monkeypatch.syspath_prepend(TOOLS)
    monkeypatch.chdir(tmp_path)
    return importlib.import_module


@pytest.fixture
def sweep(pair, inspected, monkeypatch, tmp_path):
    """A function that calls tools/sweep.py with a stubbed training."""
    monkeypatch.syspath_prepend(TOOLS)
    monkeypatch.chdir(pair)
    tool, loop, trial = (importlib.import_module(name)
                         for name in ('sweep', 'sweep_loop', 'sweep_trial'))
    Trainer.outcome = trial.Outcome
    monkeypatch.setattr(tool, 'inspect_pair', lambda *given: inspected)
    filled = []

    def call(trainer, *options):
        monkeypatch.setattr(loop, 'run_trial', trainer)
        monkeypatch.setattr(loop, 'fill', lambda config, folder, is_over: filled.append(
            Config.fromfile(config)) or trial.Outcome(trial.DONE, 0.))
        monkeypatch.setattr(loop, 'score_again', lambda *given: {'coco/bbox_mAP': 0.9})
        monkeypatch.setattr(loop, 'last_checkpoint', lambda folder: 'x.pth')
        words = [*PAIR, '--work-dir', tmp_path / 'sweep', '--holdout', 2, *options]
        monkeypatch.setattr('sys.argv', ['sweep.py', *map(str, words)])
        tool.main()
        with open(tmp_path / 'sweep' / 'sweep.json') as file:
            return json.load(file)

    call.filled, call.folder = filled, tmp_path / 'sweep'
    return call


def by_weight(config):
    """The best weight of KD is twice that of its authors, 1; DIST is worse."""
    if not terms(config):
        return [0.1, 0.2, 0.25, 0.3]
    term = terms(config)[0]
    if term.type == 'mmkd.DISTLoss':
        return [0.1, 0.2, 0.2, 0.2]
    score = 0.5 - 0.1 * abs(term.loss_weight - 2) / 2 + 0.001 * config.randomness.seed
    return [score / 4, score / 2, score * 3 / 4, score]


OPTIONS = ('--methods', 'student', 'kd', 'dist', '--seeds', 0, 1, '--hours', 1, '--trials', 8,
           '--repeat', 2, '--weights', 0.5, 4, '--temperatures', 1, 4)


@pytest.mark.slow
def test_the_best_setting_is_trained_with_all_seeds_and_reported(sweep):
    trainer = Trainer(by_weight)
    found = sweep(trainer, *OPTIONS)
    trials = found['trials']
    first = [one for one in trials if one['seed'] == 0]
    assert len(first) == 8
    # The student alone and the authors' settings come first.
    assert [one['setting'] for one in first[:3]] == [
        dict(method='student', weight=1., tau=None), dict(method='kd', weight=1., tau=1.),
        dict(method='dist', weight=1., tau=1.)]
    assert [one['setting']['method'] for one in first].count('student') == 1
    assert all(0.5 <= one['setting']['weight'] <= 4 for one in trials)
    done = [one for one in first if one['state'] == 'finished']
    best = sorted((one for one in done if one['setting']['method'] != 'student'),
                  key=lambda one: -one['curve'][-1][1])[:2]
    again = [one for one in trials if one['seed'] == 1]
    assert [one['setting'] for one in again] == [
        best[0]['setting'], best[1]['setting'], first[0]['setting']]
    assert found['chosen'] == best[0]['setting']
    assert found['chosen']['method'] == 'kd'
    scores = [one['curve'][-1][1] for one in trials if one['setting'] == found['chosen']]
    text = (sweep.folder / 'sweep.md').read_text()
    assert f'{mean(scores):.4f} ± {stdev(scores):.4f} over 2 seeds' in text
    assert 'the student alone has 0.3000 ± 0.0000.' in text
    assert found['settings'][0]['final'] == [0.9, 0.9]
    assert sum(one['final'] is not None for one in trials) == 4  # the chosen one, and alone
    written = Config.fromfile(sweep.folder / 'best.py')
    assert written.model.distill[0].loss_weight == pytest.approx(found['chosen']['weight'], 1e-5)
    assert written.model.distill[0].tau == pytest.approx(found['chosen']['tau'], 1e-5)
    assert written.model.teacher.type == 'mmkd.FrozenTeacher'
    assert 'Replay' not in str(written.train_dataloader)


@pytest.mark.slow
def test_what_trials_train(sweep, shapes):
    trainer = Trainer(by_weight)
    sweep(trainer, *OPTIONS)
    alone, kd = trainer.configs['trial000'], trainer.configs['trial001']
    for config in (alone, kd):
        assert config.train_cfg.val_interval == 1
        assert config.default_hooks.checkpoint.interval == 1
        replay, = config.train_dataloader.dataset.pipeline
        assert (replay.type, replay.variants) == ('mmkd.Replay', 4)
        # Every second of four images is held out.
        parts = []
        for part in (config.train_dataloader.dataset.ann_file, config.val_evaluator.ann_file):
            with open(part) as file:
                parts.append([one['file_name'] for one in json.load(file)['images']])
        assert parts == [['0.png', '2.png'], ['1.png', '3.png']]
    assert kd.model.teacher.type == 'mmkd.CachedTeacher'
    assert {trainer.configs[name].randomness.seed for name in trainer.configs} == {0, 1}
    # KD and DIST compare the same point: the teacher runs once for both.
    config, = sweep.filled
    assert config.model.teacher == kd.model.teacher


@pytest.mark.slow
def test_trials_below_the_median_are_cut(sweep):
    def scores(config):
        if not terms(config):
            return [0., 0., 0., 0.]
        return [0.5, 0.5, 0.5, 0.5] if terms(config)[0].loss_weight == 1 else [0.1] * 4

    trainer = Trainer(scores)
    found = sweep(trainer, '--methods', 'kd', 'dist', 'student', '--hours', 1, '--trials', 6,
                  '--startup', 2)
    states = [one['state'] for one in found['trials']]
    assert states == ['finished'] * 3 + ['cut'] * 3
    # Not after the first validation: there is nothing to tell yet.
    assert {len(one['curve']) for one in found['trials'][3:]} == {2}
    assert not list((sweep.folder / 'trials' / 'trial003').glob('*.pth'))


@pytest.mark.slow
def test_validations_without_a_score_are_not_counted(sweep):
    """The first trials have scores from the second epoch on, the others from the first one. At
    the second epoch these are better than the first trials, and at the third one they are not."""
    def scores(config):
        if not terms(config) or terms(config)[0].loss_weight == 1:
            return [None, 0.3, 0.5, 0.5]
        return [0.1, 0.4, 0.4, 0.4]

    found = sweep(Trainer(scores), '--methods', 'kd', 'dist', 'student', '--hours', 1, '--trials',
                  4, '--startup', 2)
    last = found['trials'][-1]
    assert (last['state'], last['curve']) == ('cut', [[1, 0.1], [2, 0.4], [3, 0.4]])


@pytest.mark.slow
def test_an_interrupted_sweep_goes_on_as_if_it_had_not_been(sweep, tmp_path):
    whole = sweep(Trainer(by_weight), *OPTIONS)
    os.rename(sweep.folder, tmp_path / 'whole')
    trainer = Trainer(by_weight)
    trainer.stop_at = 4
    with pytest.raises(KeyboardInterrupt):
        sweep(trainer, *OPTIONS)
    resumed = sweep(Trainer(by_weight), *OPTIONS)
    for name in ('trials', 'chosen', 'settings'):
        assert resumed[name] == whole[name]


@pytest.mark.slow
def test_the_budget_is_kept_and_more_hours_continue(sweep):
    """Four trials of a minute; the search leaves time for the repetition with the other seed."""
    trainer = Trainer(by_weight)
    options = [*OPTIONS[:7], '--repeat', 1, '--weights', 0.5, 4, '--temperatures', 1, 4]
    found = sweep(trainer, *options, '--hours', 5.5 / 60)
    assert [one['seed'] for one in found['trials']][:3] == [0, 0, 0]
    assert sum(one['seconds'] for one in found['trials']) <= 5.5 * 60 + 15
    assert {one['seed'] for one in found['trials']} == {0, 1}
    late = [one['folder'] for one in found['trials'] if one['state'] == 'interrupted']
    more = sweep(Trainer(by_weight), *options, '--hours', 8 / 60)
    assert len(more['trials']) > len(found['trials'])
    assert all(one['state'] != 'interrupted' for one in more['trials'] if one['folder'] in late)


@pytest.mark.slow
def test_trials_that_all_fail_end_the_sweep(sweep):
    def fails(path, folder, is_over, is_bad, options=()):
        return Trainer.outcome('failed', 1., 'train.py: no data')

    with pytest.raises(ValueError, match='3 trials in a row have failed, the last one because: '
                                         'train.py: no data; see train.log'):
        sweep(fails, *OPTIONS)
    with open(sweep.folder / 'sweep.json') as file:
        found = json.load(file)
    assert [one['why'] for one in found['trials']] == ['train.py: no data'] * 3
    assert found['chosen'] is None


@pytest.mark.slow
def test_another_sweep_in_the_same_folder_is_refused(sweep):
    sweep(Trainer(by_weight), *OPTIONS)
    changed = [*OPTIONS]
    changed[changed.index('--weights') + 1] = 0.25
    with pytest.raises(ValueError, match=r'has a sweep of other options \(--weights: .*\); use '
                                         r'another --work-dir'):
        sweep(Trainer(by_weight), *changed)


@pytest.mark.parametrize(('options', 'says'), [
    (['--hours', '0'], '--hours must be greater than 0, but got 0'),
    (['--hours', '1', '--weights', '4', '1'], '--weights must be two numbers above 0, the smaller '
                                              'one first, but got 4 1'),
    (['--hours', '1', '--temperatures', '2', '4'], '--temperatures must have 1 in its range, the '
                                                   'setting of the authors'),
    (['--hours', '1', '--holdout', '1'], '--holdout must be 0, or 2 or more, but got 1'),
    (['--hours', '1', '--seeds', '1', '1'], '--seeds has a number twice: 1 1'),
    (['--hours', '1', '--teacher-checkpoint', 'none'], '--teacher-checkpoint none: random weights'),
    (['--hours', '1', '--methods', 'dst'], 'no method `dst`')])
def test_wrong_options_are_refused(tool, monkeypatch, capsys, options, says):
    monkeypatch.setattr('sys.argv', ['sweep.py', *PAIR, *options])
    with pytest.raises((SystemExit, ValueError)) as stopped:
        tool('sweep').main()
    assert says in capsys.readouterr().err + str(stopped.value)


def test_without_optuna_the_message_says_what_to_install(tool, monkeypatch):
    monkeypatch.setattr('sys.argv', ['sweep.py', *PAIR, '--hours', '1'])
    monkeypatch.setitem(sys.modules, 'optuna', None)
    with pytest.raises(ImportError, match='needs Optuna, which is not installed; run `pip install '
                                          'optuna`, or install mmkd with the extra `sweep`'):
        tool('sweep').main()


class Suggester:
    """Stands for a trial of Optuna: it takes the upper end of each range."""

    def __init__(self, **attributes):
        self.user_attrs, self.params = attributes, {}

    def suggest_categorical(self, name, choices):
        return self.params.setdefault(name, choices[-1])

    def suggest_float(self, name, low, high, log):
        return self.params.setdefault(name, high)


def test_a_setting_is_read_from_its_parameters(tool):
    space = tool('sweep_space')
    spaces = dict(student=space.Space('student', []), kd=space.Space('kd', [
        dict(type='mmkd.KDLoss', on='cls', loss_weight=3.), dict(type='mmkd.MSELoss', on='neck')]))
    trial = Suggester()
    found, seed = space.suggested(trial, spaces, [4, 5], (0.5, 2.), (1., 8.))
    assert (found, seed) == (space.Setting('kd', 2., 8.), 5)
    assert space.as_params(found, seed) == trial.params
    assert space.as_setting(trial.params) == found
    # Twice the weights; eight times the temperature where there is one.
    assert spaces['kd'].entries_for(found) == [
        dict(type='mmkd.KDLoss', on='cls', loss_weight=6., tau=8.),
        dict(type='mmkd.MSELoss', on='neck', loss_weight=2.)]
    alone = Suggester(student=True)
    assert space.suggested(alone, spaces, [4], (0.5, 2.), (1., 8.))[0] == space.Setting('student')
    assert alone.params == dict(seed=4)
    assert space.first_setting(spaces['kd']) == space.Setting('kd', 1., 1.)


def test_the_first_trial_has_the_temperatures_of_the_authors(tool):
    """Also if they differ from entry to entry, or are far from 1."""
    space = tool('sweep_space')
    joined = space.Space('af_dcd', [
        dict(type='mmkd.AfDCDLoss', on='backbone', levels=[-1], tau=0.07),
        dict(type='mmkd.KDLoss', on='cls'), dict(type='mmkd.LDLoss', on='reg', tau=10.),
        dict(type='mmkd.MSELoss', on='neck')])
    first = space.first_setting(joined)
    assert [one.get('tau') for one in joined.entries_for(first)] == [0.07, 1., 10., None]
    twice = joined.entries_for(first._replace(tau=2.))
    assert [one.get('tau') for one in twice] == [0.14, 2., 20., None]
    assert first.shown() == 'af_dcd, weight x 1, tau x 1'
    assert space.first_setting(space.Space('mimic', [dict(type='mmkd.MSELoss', on='neck')])) == (
        space.Setting('mimic'))


def test_settings_with_more_seeds_come_first(tool):
    report, space = tool('sweep_report'), tool('sweep_space')
    one, other, alone = (space.Setting(*words) for words in (('kd', 2., 1.), ('dist', ), (
        'student', )))
    trials = [report.Trial(f'trial{n}', setting, seed, state, [[1, 0.1], [2, score]], 60.)
              for n, (setting, seed, state, score) in enumerate([
                  (alone, 0, 'finished', 0.9), (one, 0, 'finished', 0.4),
                  (one, 1, 'finished', 0.6), (other, 0, 'finished', 0.8),
                  (other, 1, 'cut', 0.7)])]
    rows = report.rows_of(trials)
    assert [row.setting for row in rows] == [one, alone, other]
    assert [row.mean for row in rows] == pytest.approx([0.5, 0.9, 0.8])
    assert report.chosen(trials).setting == one
    text = report.as_text(trials, dict(student='a/s.py', teacher='t.py', chosen_on='x', hours=2,
                                       spent=0.5, metric='mAP', best_config='best.py'))
    assert 'mAP 0.5000 ± 0.1414 over 2 seeds on x; the student alone has 0.9000.' in text
    assert '4 finished, 1 cut of 5 trials in 0.50 of 2 hours.' in text
    assert report.chosen(trials[:1]) is None


def test_images_are_held_out_evenly(tool, tmp_path):
    content = dict(images=[dict(id=n, file_name=f'{n}.png') for n in range(7)], categories=[],
                   annotations=[dict(id=n, image_id=n % 7) for n in range(14)])
    (tmp_path / 'all.json').write_text(json.dumps(content))
    part = dict(dataset=dict(type='CocoDataset', ann_file='all.json', data_root=str(tmp_path),
                             data_prefix=dict(img='train/')))
    config = Config(dict(
        train_dataloader=part, val_dataloader=dict(dataset=dict(ann_file='v')),
        val_evaluator=dict(ann_file='v'), test_dataloader=dict(dataset=dict(ann_file='v')),
        test_evaluator=dict(ann_file='v')))
    held = tool('data_options')
    held.hold_out(config, 3, str(tmp_path / 'out'))
    found = [json.loads(pathlib.Path(path).read_text()) for path in (
        config.train_dataloader.dataset.ann_file, config.val_dataloader.dataset.ann_file)]
    assert [[one['id'] for one in each['images']] for each in found] == [[0, 1, 3, 4, 6], [2, 5]]
    assert {one['image_id'] for one in found[1]['annotations']} == {2, 5}
    assert config.val_evaluator.ann_file == config.val_dataloader.dataset.ann_file
    assert config.val_dataloader.dataset.data_prefix == dict(img='train/')
    config.train_dataloader.dataset.ann_file = 'all.json'
    with pytest.raises(ValueError, match='--holdout 8 leaves no image of 7 in one of both parts'):
        held.hold_out(config, 8, str(tmp_path / 'out'))


def with_held_out(tool, name, tmp_path):
    """The config of a run of tools/compare.py or tools/sweep.py with every third image held out."""
    args = SimpleNamespace(folder=str(tmp_path), work_dir=str(tmp_path / 'work'), holdout=3,
                           config=str(tmp_path / 'student.py'), data_root=None, cfg_options={},
                           variants=0)
    if name == 'compare':
        return tool(name).make_config(args, args.config, 0)
    return tool(name).config_of_trials(args, tool(name).plain_config(args))


@pytest.fixture
def two_roots(tmp_path):
    """A config whose training set has another root than its validation set."""
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a' / 'all.json').write_text(json.dumps(dict(
        images=[dict(id=n, file_name=f'{n}.png') for n in range(6)], annotations=[],
        categories=[])))
    loader = dict(dataset=dict(type='CocoDataset', data_root='b/', ann_file='v.json',
                               data_prefix=dict(img='valid/')))
    return dict(model=dict(), train_cfg=dict(max_epochs=1), train_dataloader=dict(dataset=dict(
        type='CocoDataset', data_root='', ann_file='a/all.json', data_prefix=dict(img='a/train/'),
        pipeline=[])),
        val_dataloader=loader, val_evaluator=dict(type='CocoMetric', ann_file='b/v.json'),
        test_dataloader=loader, test_evaluator=[
            dict(type='CocoMetric', ann_file='b/v.json'), dict(type='VOCMetric')])


@pytest.mark.parametrize('name', ['compare', 'sweep'])
def test_held_out_images_are_read_from_the_folder_of_the_training_set(tool, tmp_path, two_roots,
                                                                      name):
    Config(two_roots).dump(str(tmp_path / 'student.py'))
    config = with_held_out(tool, name, tmp_path)
    file = str(tmp_path / 'work' / 'holdout_val.json')
    for part in (config.val_dataloader, config.test_dataloader):
        assert part.dataset == dict(type='CocoDataset', data_root='', ann_file=file,
                                    data_prefix=dict(img='a/train/'))
    assert config.val_evaluator.ann_file == file
    # A metric without an argument `ann_file` does not get one.
    assert config.test_evaluator == [dict(type='CocoMetric', ann_file=file), dict(type='VOCMetric')]


@pytest.mark.parametrize('name', ['compare', 'sweep'])
@pytest.mark.parametrize(('change', 'says'), [
    (dict(test_dataloader=None, test_evaluator=None),
     '--holdout needs `test_dataloader`, `test_evaluator` of the config, which has none'),
    ({'train_dataloader.dataset.indices': 4}, 'the data set of `train_dataloader` has `indices`'),
    ({'val_dataloader.dataset.indices': [1]}, 'the data set of `val_dataloader` has `indices`'),
    (dict(val_dataloader=dict(dataset=dict(_delete_=True, type='ConcatDataset'))),
     'the data set of `val_dataloader`, but ConcatDataset has none')])
def test_held_out_images_need_all_parts(tool, tmp_path, two_roots, name, change, says):
    config = Config(two_roots)
    config.merge_from_dict(copy.deepcopy(change))  # which changes it
    config.dump(str(tmp_path / 'student.py'))
    with pytest.raises(ValueError, match=re.escape(says)) as refused:
        with_held_out(tool, name, tmp_path)
    assert '\n' not in str(refused.value)
    assert not (tmp_path / 'work').exists()


def test_refused_sweep_does_not_decide_about_the_folder(tool, tmp_path, two_roots, monkeypatch):
    """The options are recorded when all of them have been checked."""
    Config(two_roots).dump(str(tmp_path / 'student.py'))
    (tmp_path / 'teacher.pth').write_bytes(b'')
    sweep = tool('sweep')
    begun = []

    def make_plan(args, plain, student):
        if args.methods == ['mimic']:
            raise ValueError('`mimic` has nothing to compare in this pair')
        return args.methods

    monkeypatch.setattr(sweep, 'make_plan', make_plan)
    monkeypatch.setattr(sweep, 'Sweep', lambda args, plan: SimpleNamespace(
        run=lambda: begun.append(plan)))
    words = ['sweep.py', *PAIR, '--hours', '1', '--work-dir', 'work', '--methods']
    monkeypatch.setattr('sys.argv', [*words, 'mimic'])
    with pytest.raises(ValueError, match='nothing to compare'):
        sweep.main()
    assert not (tmp_path / 'work' / 'options.json').exists()
    monkeypatch.setattr('sys.argv', [*words, 'kd'])
    sweep.main()
    assert begun == [['kd']]
    # Another held-out part is refused before the files of the first one are overwritten.
    before = (tmp_path / 'work' / 'holdout_val.json').read_bytes()
    monkeypatch.setattr('sys.argv', [*words, 'kd', '--holdout', '2'])
    with pytest.raises(ValueError, match='has a sweep of other options'):
        sweep.main()
    assert (tmp_path / 'work' / 'holdout_val.json').read_bytes() == before


@pytest.mark.slow
def test_outputs_at_rois_are_not_stored(shapes, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    space = importlib.import_module('sweep_space')
    from mmkd.inspection import inspect_pair
    config = detector_config(shapes, two_stage(), 'unused')
    pair = inspect_pair(config, config)
    found = space.spaces_of(['kd', 'mimic'], pair)
    assert (found['kd'].is_cached, found['mimic'].is_cached) == (False, True)
    assert (found['kd'].has_tau, found['mimic'].has_tau) == (True, False)


@pytest.mark.slow
def test_killed_and_continued_with_real_trainings(pair, tmp_path):
    """kill -9 while a trial trains: its process ends, too, and the same command goes on."""
    words = [*PAIR, '--methods', 'kd', 'student', '--hours', '1', '--trials', '2', '--holdout',
             '2', '--variants', '2', '--work-dir', str(tmp_path / 'sweep'), '--cfg-options',
             'train_cfg.max_epochs=6']
    process = subprocess.Popen(
        [sys.executable, '-W', 'ignore', os.path.join(TOOLS, 'sweep.py'), *words], cwd=pair,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    trial = tmp_path / 'sweep' / 'trials' / 'trial000'
    try:
        wait_for(lambda: list(trial.glob('epoch_*.pth')), process)
        child, = children(process.pid)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_for(lambda: not os.path.exists(f'/proc/{child}') or 'Z' in state_of(child))
    done = subprocess.run([sys.executable, '-W', 'ignore', os.path.join(TOOLS, 'sweep.py'), *words],
                          cwd=pair, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    out = done.stdout
    assert 'Storing' not in out  # the outputs were complete
    assert 'trial000: kd, weight x 1, tau x 1, seed 0' in out
    with open(tmp_path / 'sweep' / 'sweep.json') as file:
        found = json.load(file)
    assert [(one['folder'], one['setting']['method'], one['state'], one['curve'][-1][0])
            for one in found['trials']] == [
        ('trial000', 'kd', 'finished', 6), ('trial001', 'student', 'finished', 6)]
    assert all(one['final'] is not None for one in found['trials'])
    # The outputs of the teacher for two variants of two images came from the store.
    text = (trial / 'train.log').read_text()
    assert 'resumed epoch' in text
    assert '100% of 2 outputs of the teacher were read from the cache' in text
    run('report.py', trial, tmp_path / 'sweep' / 'trials' / 'trial001', '--out',
        tmp_path / 'report.html', cwd=pair)
    assert 'loss_cls_kd' in (tmp_path / 'report.html').read_text()


def children(pid):
    """Processes of tools/train.py that a process has started."""
    with open(f'/proc/{pid}/task/{pid}/children') as file:
        return [int(one) for one in file.read().split()]


def state_of(pid):
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rpartition(')')[2].split()[0]
    except OSError:
        return 'Z'


def wait_for(is_there, process=None, seconds=900):
    end = time.monotonic() + seconds
    while not is_there():
        assert time.monotonic() < end
        assert process is None or process.poll() is None
        time.sleep(0.1)
