"""benchmarks/benchmark.py: what it measures, and that its tables contain these figures."""
import json
import os
import subprocess
import sys
import time
from argparse import Namespace

import pytest
from conftest import retinanet, segmentor
from mmengine.config import Config
from support.tools import BENCHMARKS, run_tool


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import benchmark
    return benchmark


@pytest.fixture
def steps(benchmark):
    import steps
    return steps


def cells(line):
    return [cell.strip() for cell in line.strip('| \n').split('|')]


@pytest.mark.slow
def test_parts_of_a_pair(tmp_path):
    plain = Config(dict(default_scope='mmdet', optim_wrapper=dict(optimizer=dict(
        type='SGD', lr=0.01))))
    for name, model in dict(student=retinanet(), teacher=retinanet(50)).items():
        config = Config(dict(plain, model=model))
        config.dump(str(tmp_path / f'{name}.py'))
    run_tool(os.path.join(BENCHMARKS, 'benchmark.py'), '--student', 'student.py', '--teacher',
             'teacher.py', '--methods', 'dist', 'cwd', '--whole', '--cached', '--fast', 'fuse=True',
             '--profile', '--no-memory', '--losses', '--loss-shape', 1, 4, 5, 6, '--size', 64, 64,
             '--batch-size', 1, 2, '--rounds', 1, '--work-dir', 'found', cwd=tmp_path)
    with open(tmp_path / 'found' / 'benchmark.json') as file:
        found = json.load(file)
    names = ['student alone', 'teacher, whole forward', *(
        f'{method}{form}' for method in ('dist', 'cwd')
        for form in ('', ', answers from a cache', ', teacher with fuse=True', ', whole teacher'))]
    assert list(found['steps']) == ['batch size 1, float32', 'batch size 2, float32']
    steps = found['steps']['batch size 2, float32']
    assert sorted(steps['seconds']) == sorted(names)
    assert all(len(seconds) == 1 and seconds[0] > 0 for seconds in steps['seconds'].values())
    for method in ('dist', 'cwd'):
        exact = steps['terms'][method][f'loss_cls_{method}']
        assert exact > 0
        for form, tolerance in ((', whole teacher', 0), (', teacher with fuse=True', 1e-4),
                                (', answers from a cache', 1e-2)):
            assert steps['terms'][method + form][f'loss_cls_{method}'] == pytest.approx(
                exact, rel=tolerance, abs=0)
        assert 0 < sum(steps['profiles'][method].values()) < 1
    text = (tmp_path / 'found' / 'benchmark.md').read_text().splitlines()
    text = text[text.index('**batch size 2, float32**'):]
    alone, whole = (steps['seconds'][name][0] for name in names[:2])
    row = cells(next(line for line in text if line.startswith('| cwd |')))
    own = steps['seconds']['cwd'][0]
    assert row[2:4] == [f'{own / alone:.2f}', f'{own / (alone + whole):.2f}']
    assert [cells(line)[0] for line in text[-3:]] == ['DIST', 'KD', 'CWD']


def test_medians_of_parts_that_run_in_turn(steps):
    order = []

    def part(name, seconds):
        def wait():
            order.append(name)
            time.sleep(seconds)
        return wait

    args = Namespace(rounds=3, device='cpu')
    found = steps.timed(dict(slow=part('slow', 0.03), fast=part('fast', 0.003)), args)
    assert order == ['slow', 'fast'] * 5  # the first two rounds do not count
    assert [len(found[name]) for name in ('slow', 'fast')] == [3, 3]
    assert min(found['slow']) >= 0.03
    assert sorted(found['fast'])[1] < 0.03


def test_table_of_a_given_run(steps):
    seconds = {'student alone': [2., 9., 1.], 'teacher, whole forward': [1., 1., 1.],
               'dist': [3., 3., 3.], 'dist, whole teacher': [4., 4., 4.],
               f'dist, {steps.WITHOUT}': [2.5, 2.5, 2.5]}  # its memory is not measured
    memory = {name: dict(peak=100. * (1 + number))
              for number, name in enumerate(list(seconds)[:-1])}
    terms = {name: {} for name in seconds}
    terms.update({'dist': dict(loss=2.), 'dist, whole teacher': dict(loss=2.02)})
    lines = steps.table_of_steps(dict(seconds=seconds, memory=memory, terms=terms)).splitlines()
    assert [cells(line) for line in lines[2:]] == [
        ['student alone', '2000', '1.00', '', '1.00'],
        ['teacher, whole forward', '1000', '0.50', '', '2.00'],
        ['dist', '3000', '1.50', '1.00', '3.00'],
        ['dist, whole teacher', '4000', '2.00', '1.33', '4.00', '1.0e-02'],
        [f'dist, {steps.WITHOUT}', '2500', '1.25', '0.83']]


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--losses', '--mmrazor', 'x'], '--mmrazor goes with --student and --teacher'),
    (['--student', 's', '--teacher', 't', '--methods', 'mimic', '--mmrazor', 'x'],
     '--mmrazor goes with the --methods dist, kd, cwd, but got mimic'),
    (['config', '--compiled'], '--compiled goes with --losses'),
    (['--losses', '--loss-shape', '8', '3'], '--loss-shape is that of maps'),
])
def test_arguments_that_would_do_nothing_are_refused(benchmark, monkeypatch, capsys, arguments,
                                                     message):
    monkeypatch.setattr(sys, 'argv', ['benchmark.py', *arguments])
    with pytest.raises(SystemExit):
        benchmark.parse_args()
    assert message in capsys.readouterr().err


def test_images_have_the_requested_size(steps):
    config = Config(dict(default_scope='mmseg', model=segmentor()))
    args = Namespace(size=[32, 48], device='cpu')
    model = steps.build(config, config.model, args)
    batch = steps.made_up_batch(model, *args.size, 2)
    assert model.data_preprocessor(batch, True)['inputs'].shape == (2, 3, 32, 48)


def test_no_part_downloads_weights(steps):
    plain = dict(pretrained='open-mmlab://resnet18_v1c', backbone=dict(
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18')))
    found = steps.without_weights(dict(student=plain, teacher=dict(config=dict(model=plain))))
    assert found['student'] == dict(pretrained=None, backbone=dict(init_cfg=None))
    assert found['teacher'] == dict(config=dict(model=found['student']), checkpoint=None)


def test_a_table_of_losses_has_time_and_bandwidth(benchmark):
    import losses_alone
    args = Namespace(losses=['KD', 'XY'], loss_shape=[1, 2, 3, 4], feature_shape=[1, 2, 3, 4],
                     compiled=False)
    seconds = {'straightforward': [0.4, 0.4, 9.], 'mmkd': [0.1, 0.2, 0.3],
               'read twice and write': [0.1], 'read once and write': [0.05]}
    text = losses_alone.table_of_losses(
        dict(KD=dict(seconds=seconds, memory={}, elements=10**9)), args)
    assert cells(text.splitlines()[4]) == ['KD', '200', '2.0', '2.0', '60, 25%']
    assert 'Not called on two maps alone: XY' in text


def test_what_is_finished_is_written_before_the_next_setting(benchmark, monkeypatch, tmp_path):
    def settings(args):
        yield 'batch size 2, float32', dict(seconds={
            'student alone': [1.], 'dist': [2.]}, memory={}, terms={
                'student alone': {}, 'dist': {}})
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmark, 'measure_steps', settings)
    args = Namespace(configs=['x'], student=None, losses=None, size=[1, 2], batch_size=[2, 8],
                     amp=['float32'], device='cpu', rounds=3, profile=False, work_dir=str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        benchmark.measure(args)
    assert '| dist | 2000 | 2.00 |' in (tmp_path / 'benchmark.md').read_text()
    with open(tmp_path / 'benchmark.json') as file:
        assert list(json.load(file)['steps']) == ['batch size 2, float32']


@pytest.mark.slow
def test_memory_is_the_peak_of_the_process(tmp_path):
    """At least eight tensors of the size of the logits (16 MiB each) exist at the same time."""
    found = subprocess.run(
        [sys.executable, '-W', 'ignore', os.path.join(BENCHMARKS, 'benchmark.py'), '--losses',
         '--loss-shape', '2', '64', '128', '256', '--only', 'KD/straightforward'],
        cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert 8 * 16 < json.loads(found.splitlines()[-1])['peak'] < 20 * 16


@pytest.mark.slow
def test_memory_of_building_does_not_count(tmp_path):
    code = '''
import sys, torch
sys.path.insert(0, sys.argv[1])
import steps
def build(args):
    torch.zeros(64, 2**20).sum()  # 256 MiB, freed before the step
    return dict(part=lambda: lambda setting: lambda: torch.zeros(16, 2**20).sum())
steps.parts_of = build
print(steps.memory_of_step(steps.argparse.Namespace(
    only='part', device='cpu', batch_size=[1], amp=['float32']))['peak'])
'''
    found = subprocess.run([sys.executable, '-W', 'ignore', '-c', code, BENCHMARKS], cwd=tmp_path,
                           check=True, capture_output=True, text=True).stdout
    assert 60 < float(found.splitlines()[-1]) < 150


def test_missing_mmrazor_is_reported(benchmark, monkeypatch):
    import peer
    monkeypatch.setattr(peer, 'find_spec', lambda name: None)
    with pytest.raises(SystemExit, match=r'pip install --no-deps mmrazor==1\.0\.0'):
        peer.import_mmrazor()


PAIR = Config(dict(default_scope='mmdet', optim_wrapper=dict(optimizer=dict(
    type='SGD', lr=0.01)), model=dict(student=retinanet(), teacher=dict(
        config=dict(model=retinanet(50))))))


@pytest.mark.parametrize(('module', 'message'), [
    ('bbox_head.retina_clss', 'no such module; close to it are bbox_head.retina_cls'),
    ('bbox_head.loss_cls', 'does not run by itself')])
def test_a_module_that_mmrazor_cannot_record_is_named(steps, monkeypatch, module, message):
    monkeypatch.setattr(steps, 'import_mmrazor', lambda: None)
    args = Namespace(size=[64, 64], device='cpu', mmrazor=module)
    with pytest.raises(SystemExit, match=message):
        steps.mmrazor_step_of(args, PAIR, 'dist')


def test_mmrazors_step_compares_each_call_of_the_module(steps, monkeypatch):
    pytest.importorskip('mmrazor')
    import peer
    peer.import_mmrazor()
    args = Namespace(size=[64, 64], device='cpu', mmrazor='bbox_head.retina_cls')
    seen = []
    monkeypatch.setattr(
        peer.sys.modules['mmrazor.models.losses.dist_loss'].DISTLoss, 'forward',
        lambda self, logits_S, logits_T: (seen.append((logits_S.shape, logits_T.shape)),
                                          logits_S.sum())[1])
    steps.mmrazor_step_of(args, PAIR, 'dist')(steps.Setting(2, steps.FLOAT32))()
    assert seen == [((2, 27, n, n), ) * 2 for n in (8, 4, 2, 1, 1)]
