"""The measured costs of methods and the growth of losses, and the tables of these figures."""
import json
import os
import re

import pytest
import torch
from conftest import retinanet, segmentor
from mmengine.config import Config
from support.tools import BENCHMARKS, run_tool

from mmkd.losses import METHODS
from mmkd.losses.method import alternatives


@pytest.fixture(autouse=True)
def on_path(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)


@pytest.fixture
def calls(on_path):
    import loss_calls
    return loss_calls


@pytest.fixture
def methods(on_path):
    import methods
    return methods


@pytest.fixture
def growth(on_path):
    import growth
    return growth


def write_pair(folder, scope, student, teacher):
    for name, model in dict(student=student, teacher=teacher).items():
        Config(dict(default_scope=scope, model=model, optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=0.01)))).dump(str(folder / f'{name}.py'))


# --- losses alone -------------------------------------------------------------------------------


@pytest.mark.parametrize('name', ['DIST', 'KD', 'CWD', 'CIRKD'])
def test_both_forms_of_a_loss_agree(calls, name):
    shape, values, gradients = (2, 5, 4, 6), [], []
    for is_straightforward in (False, True):
        torch.manual_seed(0)
        loss = calls.loss_of(name)
        assert calls.has_two_forms(loss)
        generator = torch.Generator().manual_seed(0)
        student, teacher = torch.randn(2, *shape, generator=generator)
        student.requires_grad_()
        value = calls.prepared(loss, student, teacher, generator, is_straightforward)
        values.append(value(student, teacher))
        gradients.append(torch.autograd.grad(values[-1], student)[0])
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)


def test_losses_that_can_be_called_alone(calls):
    names = calls.names_of_losses()
    assert {'MSE', 'CIRKD', 'AfDCD', 'PGDCls'} <= set(names)
    assert calls.loss_of('AfDCD') is not None
    assert calls.loss_of('PGDCls') is None  # it needs the values of further points
    assert not calls.has_two_forms(calls.loss_of('MSE'))


@pytest.mark.parametrize('name', METHODS)
def test_empty_losses_at_the_points_of_every_method(calls, name):
    for recipe in METHODS[name].recipes().values():
        for written in recipe.entries:
            for entry in alternatives(written):
                nothing = calls.nothing_at(entry)
                assert nothing['type'] == 'mmkd.NothingLoss'
                assert nothing['on'] == entry['on']
                assert set(nothing) <= {'type', 'on', 'name', 'per_anchor', 'stage', 'levels',
                                        'also', 'through'}
    x = torch.ones(2, 3, requires_grad=True)
    calls.NothingLoss()(x, x).backward()
    assert x.grad is not None


# --- methods ------------------------------------------------------------------------------------


def test_figures_of_a_given_run(methods):
    steps = dict(
        seconds={'student alone': [2., 4., 2.], 'teacher, whole forward': [1., 1., 1.],
                 'a': [4., 8., 5.], 'a, teacher observed': [3., 7., 3.]},
        memory={'student alone': dict(peak=100.), 'a': dict(peak=150.)}, parameters=dict(a=5000))
    row, = methods.figures_of(steps, ['a']).values()
    assert row == dict(step=2., of_both=1.6, term=0.5, spread=0.375, parameters=5000,
                       student_seconds=2., memory=1.5)
    pairs = dict(x=dict(title='X', student='s', teacher='t', methods=dict(
        a=row, b=dict(failed='Traceback\nno')), left_out=dict(c='why')))
    assert methods.cells_of(pairs) == dict(
        a=dict(parameters='X 0.01 M', step='X 1.60 (+50 ± 38 %)'), b=dict(parameters='0', step='0'))
    text = methods.table_of_pair(pairs['x'])
    assert '| a | 2.00 | 1.60 | +50 ± 38 % | 1.50 | 0.01 M |' in text
    assert '| b | failed: no |' in text
    assert 'Not for this pair: c.' in text


def test_pairs_exist(methods):
    from mmkd.files.zoo import config_path
    for pair in methods.PAIRS.values():
        student, teacher = (Config.fromfile(config_path(one)).model
                            for one in (pair.student, pair.teacher))
        assert (student.backbone.depth, teacher.backbone.depth) == (18, 50)
        assert not os.path.isabs(methods.shown(pair.student))
    assert methods.shown('/elsewhere/student.py') == '/elsewhere/student.py'


@pytest.mark.slow
def test_methods_of_a_pair(tmp_path):
    write_pair(tmp_path, 'mmseg', segmentor(), segmentor(width=12))
    given = ('--student', 'student.py', '--teacher', 'teacher.py', '--methods', 'dist', 'af_dcd',
             'pgd', '--at-once', 2, '--size', 64, 64, '--rounds', 1, '--no-memory', '--out', 'out')
    run_tool(os.path.join(BENCHMARKS, 'methods.py'), *given, cwd=tmp_path)
    found = json.loads((tmp_path / 'out' / 'costs.json').read_text())
    pair = found['pairs']['given']
    assert set(pair['methods']) == {'dist', 'af_dcd'}
    assert pair['left_out']['pgd'].startswith('`pgd` has nothing to compare')
    rows = pair['methods']
    assert rows['dist']['parameters'] == 0
    width = 96
    assert rows['af_dcd']['parameters'] == 64 * width + width + 2 * (9 * width**2 + width)
    assert all(row['step'] > row['of_both'] > 0 for row in rows.values())
    assert set(found['methods']) == {'dist', 'af_dcd'}
    saved = tmp_path / 'work_dirs' / 'methods' / 'given_dist_af_dcd' / 'benchmark.json'
    assert saved.is_file()


def test_a_group_is_measured_once_and_one_by_one_if_it_fails(methods, monkeypatch, tmp_path):
    asked = []

    class Ended:
        stderr = 'Traceback\nValueError: no'

        def __init__(self, command, **_):
            names = command[command.index('--methods') + 1:command.index('--terms')]
            asked.append([*names, *['memory'] * ('--no-times' in command)])
            self.returncode = int('b' in names)
            if '--no-times' in command:
                folder = tmp_path / 'x_a' / 'memory'
                folder.mkdir()
                (folder / 'benchmark.json').write_text(json.dumps(dict(steps=dict(one=dict(memory={
                    'student alone': dict(peak=10.), 'a': dict(peak=12.)})))))
            elif not self.returncode:
                folder = tmp_path / f'x_{"_".join(names)}'
                folder.mkdir()
                seconds = {'student alone': [1.], 'teacher, whole forward': [1.],
                           **{one: [3.] for name in names
                              for one in (name, f'{name}, teacher observed')}}
                (folder / 'benchmark.json').write_text(json.dumps(dict(
                    machine='M', steps=dict(one=dict(
                    seconds=seconds, memory={}, parameters=dict.fromkeys(names, 0))))))

    monkeypatch.setattr(methods.subprocess, 'run', Ended)
    pair = methods.Models('X', 's', 't')
    for words in (['--no-memory'], [], []):
        monkeypatch.setattr(methods.sys, 'argv', [
            'methods.py', '--work-dir', str(tmp_path), *words])
        args = methods.parse_args()
        found = methods.measured_group(args, 'x', pair, ['a', 'b'])
        assert found['machine'] == 'M'
        assert found['a']['step'] == 3
        assert found['a'].get('memory') == (None if words else 1.2)
        assert 'ValueError: no' in found['b']['failed']
    assert asked == [['a', 'b'], ['a'], ['b'],
                     ['a', 'b'], ['a', 'memory'], ['b'], ['a', 'b'], ['b']]


def test_methods_of_an_earlier_call_stay(methods):
    one, two, failed = dict(step=1), dict(step=2), dict(failed='no')
    before = dict(title='X', student='s', teacher='t', machine='M', methods=dict(a=one, b=one),
                  left_out=dict(c='why', d='why'))
    after = dict(before, methods=dict(a=failed, b=two, c=two, e=failed), left_out={})
    assert methods.joined(None, after) == after
    expected = dict(before, methods=dict(a=one, b=two, c=two, e=failed), left_out=dict(d='why'))
    assert methods.joined(before, after) == expected
    nothing = dict(after, machine='', methods={})
    assert methods.joined(before, nothing)['methods'] == before['methods']
    assert methods.joined(before, nothing)['machine'] == 'M'
    for change in (dict(machine='N'), dict(student='other')):
        with pytest.raises(SystemExit, match='figures of X that were measured otherwise'):
            methods.joined(before, dict(after, **change))


@pytest.mark.slow
def test_methods_with_a_first_stage_have_a_cost(tmp_path):
    write_pair(tmp_path, 'mmdet', retinanet(), retinanet(width=12))
    run_tool(os.path.join(BENCHMARKS, 'methods.py'), '--student', 'student.py', '--teacher',
             'teacher.py', '--methods', 'maskd', 'freekd', '--size', 64, 64, '--rounds', 1,
             '--out', 'out', cwd=tmp_path)
    found = json.loads((tmp_path / 'out' / 'costs.json').read_text())
    rows = found['pairs']['given']['methods']
    assert set(rows) == {'maskd', 'freekd'}
    assert all(row['step'] > 0 and row['memory'] > 1 for row in rows.values())


# --- growth -------------------------------------------------------------------------------------


def test_slopes_and_what_is_left_out(growth, monkeypatch):
    assert growth.slope([1, 10, 100], [5, 5, 5]) == 0
    assert growth.slope([1, 1], [5, 6]) is None
    assert growth.slope([1, 2], [0, 1]) is None

    class Ended:
        """Of a process that ended after the size 64."""
        stderr = 'growth.py: 64 took 17 s'

        def __init__(self, command, **_):
            sizes = [int(size) for size in command[-1].rpartition('/')[2].split(',')]
            assert sizes == [16, 32, 64, 96]
            self.stdout = 'a line of a library\n' + '\n'.join(
                json.dumps(dict(seconds=size**4 * 1e-6, memory=size**2, sizes=size))
                for size in sizes[:3])

    monkeypatch.setattr(growth.subprocess, 'run', Ended)
    monkeypatch.setattr(growth.sys, 'argv', ['growth.py'])
    args = growth.parse_args()
    args.most = 1.
    found = growth.curve(args, 'positions', 'MSE', [16, 32, 64, 96, 1024])
    assert found['sizes'] == [16, 32, 64]
    assert found['amounts'] == [2 * 256 * size**2 for size in found['sizes']]
    assert found['slopes'] == pytest.approx(dict(seconds=2, memory=1))
    assert found['left_out'] == {96: 'growth.py: 64 took 17 s',
                                 1024: 'its tensors may take 12 GiB'}
    text = growth.table_of(dict(positions=dict(MSE=found)))
    assert '| MSE | 16, 32, 64 | 2.00 | 1.00 |' in text
    assert 'Left out: MSE at 96:' in text


def test_a_curve_is_kept_for_the_same_measurement(growth, monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(growth, 'curve', lambda *given: calls.append(given) or dict(sizes=[1]))
    path = tmp_path / 'images_KD.json'

    def curve(*options, sizes=(1, 3)):
        monkeypatch.setattr(growth.sys, 'argv', ['growth.py', *options])
        return growth.kept_curve(growth.parse_args(), path, 'images', 'KD', list(sizes))

    assert curve() == curve() == curve('--losses', 'KD', 'DIST') == dict(sizes=[1])
    assert len(calls) == 1
    for number, changes in enumerate([dict(options=['--side', '32']), dict(sizes=[1, 2]),
                                      dict(options=['--rounds', '3'])]):
        curve(*changes.get('options', ()), sizes=changes.get('sizes', (1, 3)))
        assert len(calls) == 2 + number


def test_curves_of_several_calls_are_joined(growth, tmp_path):
    def keep(folder, machine='M', **scores):
        (tmp_path / folder / 'curves').mkdir(parents=True)
        for name, score in scores.items():
            (tmp_path / folder / 'curves' / f'{name}.json').write_text(json.dumps(dict(
                of=dict(machine=machine), curve=score)))

    keep('a', images_KD=1, images_AT=2, classes_KD=3)
    keep('b', images_KD=4)
    machine, curves = growth.joined([tmp_path / 'a', tmp_path / 'b'])
    assert machine == 'M'
    assert curves == dict(classes=dict(KD=3), images=dict(AT=2, KD=4))
    assert list(curves) == ['classes', 'images']
    keep('c', machine='N', terms_KD=5)
    with pytest.raises(SystemExit, match='expected curves of one machine, but found .*: M; .*: N'):
        growth.joined([tmp_path / 'a', tmp_path / 'c'])
    with pytest.raises(SystemExit, match='d has no curves'):
        growth.joined([tmp_path / 'a', tmp_path / 'd'])
    (tmp_path / 'a' / 'curves' / 'images_AT.json').write_text('{')
    with pytest.raises(SystemExit, match='images_AT.json is no curve of this benchmark'):
        growth.joined([tmp_path / 'a'])


def test_shapes_grow_along_one_axis(growth, monkeypatch):
    monkeypatch.setattr(growth.sys, 'argv', ['growth.py'])
    args = growth.parse_args()
    assert growth.shape_at(args, 'classes', 'KD', 1203) == (2, 9 * 1203, 64, 64)
    assert growth.shape_at(args, 'positions', 'CIRKD', 96) == (2, 256, 96, 96)
    assert growth.shape_at(args, 'images', 'MSE', 16) == (16, 256, 64, 64)
    assert growth.is_for('classes', 'DIST')
    assert not growth.is_for('classes', 'MSE')


@pytest.mark.slow
def test_growth_of_a_loss_and_of_terms(tmp_path):
    write_pair(tmp_path, 'mmdet', retinanet(), retinanet(50))
    for axis, sizes in dict(images=(1, 3), terms=(1, 2)).items():
        run_tool(os.path.join(BENCHMARKS, 'growth.py'), '--losses', 'KD', '--axes', axis, '--sizes',
                 *sizes, '--side', 8, '--rounds', 1, '--student', 'student.py', '--teacher',
                 'teacher.py', '--size', 64, 64, '--out', axis, cwd=tmp_path)
        curves = json.loads((tmp_path / axis / 'growth.json').read_text())['curves']
        assert curves[axis]['KD']['sizes'] == list(sizes)
        assert not curves[axis]['KD']['left_out']
        assert (tmp_path / axis / 'growth.png').stat().st_size > 10000


@pytest.mark.slow
def test_sizes_that_take_too_much_are_left_out(tmp_path):
    run_tool(os.path.join(BENCHMARKS, 'growth.py'), '--losses', 'KD', '--axes', 'positions',
             '--sizes', 64, 96, 4096, '--rounds', 1, '--longest', 0, '--out', 'out', cwd=tmp_path)
    curve = json.loads((tmp_path / 'out' / 'growth.json').read_text())['curves']['positions']['KD']
    assert curve['sizes'] == [64]
    assert 20 < curve['memory'][0] < 50  # a map has 22.5 MiB
    assert re.search(r': 64 took \d+ s$', curve['left_out']['96'])
    assert re.match(r'its tensors may take \d+ GiB', curve['left_out']['4096'])
