"""tools/inspect_pair.py --data and tools/report.py, run like a user runs them."""
import json
import re

import pytest
from conftest import CLASSES, detector_config, distiller, retinanet, save_teacher, train
from support.tools import run_tool as run


@pytest.fixture(scope='module')
def pair(shapes, tmp_path_factory):
    folder = tmp_path_factory.mktemp('pair')
    save_teacher(folder / 'teacher.pth', retinanet(width=12))
    save_teacher(folder / 'student.pth', retinanet(), seed=2)
    detector_config(shapes, retinanet(), 'unused').dump(str(folder / 'student.py'))
    detector_config(shapes, retinanet(width=12), 'unused').dump(str(folder / 'teacher.py'))
    return folder


def inspect(folder, *options, **named):
    return run('inspect_pair.py', 'student.py', 'teacher.py', *options, cwd=folder, **named)


def test_a_pair_is_reported_as_text_json_and_page(pair):
    out = inspect(pair, '--data', '--images', 2, '--only', 'dist', 'mimic', '--teacher-checkpoint',
                  'teacher.pth', '--student-checkpoint', 'student.pth', '--json', 'pair.json',
                  '--html', 'pair.html').stdout
    found = json.loads((pair / 'pair.json').read_text())
    advice = found['recommendation']
    assert out.splitlines()[-6].strip() == advice['headline'] or advice['headline'] in out
    assert len(advice['reasons']) == 3
    assert all(reason in out for reason in advice['reasons'])
    assert found['images'] == dict(scored=2, train=2, held_out=2)
    assert [one['name'] for one in found['methods']] == ['dist', 'mimic']
    page = (pair / 'pair.html').read_text()
    assert advice['headline'] in page
    assert page.count('data:image/jpeg;base64') == 3 * len(re.findall('class="row"', page))
    assert not re.search(r'https?://', page)
    for name in CLASSES:
        assert name in page


def test_the_table_of_shares_has_the_weight_for_the_default(pair):
    out = inspect(pair, '--shares', 'mimic', 'kd', '--teacher-checkpoint', 'teacher.pth').stdout
    titles, _, *rows = ([cell.strip() for cell in line.split('|')[1:-1]]
                        for line in out.splitlines() if line.startswith('|'))
    found = [dict(zip(titles, row)) for row in rows]
    assert [(one['method'], one['term'], one['point'], one['at']) for one in found] == [
        ('mimic', 'loss_neck_mse', 'neck', 'neck'), ('kd', 'loss_cls_kd', 'cls', 'neck')]
    for one in found:
        assert float(one['loss_weight for 10']) == pytest.approx(
            10 * float(one['loss_weight']) / float(one['share']), rel=0.02)
        assert -1 <= float(one['cosine']) <= 1


@pytest.mark.parametrize(('options', 'message'), [
    (['--html', 'x.html'], '--html goes with --data; add --data'),
    (['--data', '--images', '0'], '--images must be at least 1, but got 0; use for instance 200'),
    (['--data', '--minutes', '0'], '--minutes must be greater than 0, but got 0; use for'),
    (['--data', '--only', 'dst'], 'no method `dst`; write `dist`'),
    (['--shares', 'dst', '--teacher-checkpoint', 'none'], 'no method `dst`; write `dist`'),
    (['--data', '--shares'], '--data measures the shares, too; leave out --shares'),
    (['--data', '--html', 'no/x.html'], 'no/x.html: the folder .*no does not exist; create it'),
    (['--data', '--teacher-checkpoint', 'none', '--student-checkpoint', 'no.pth'],
     '--student-checkpoint: no checkpoint at `no.pth` .*; write the path')])
def test_wrong_options_are_refused(pair, options, message):
    done = inspect(pair, *options, check=False)
    assert done.returncode in (1, 2)
    assert re.search(message, done.stderr)
    assert 'Traceback' not in done.stderr


@pytest.fixture(scope='module')
def runs(pair, shapes):
    teacher = dict(config='teacher.py', checkpoint=str(pair / 'teacher.pth'))
    teacher['config'] = str(pair / 'teacher.py')
    for name, model in dict(student=retinanet(), dist=distiller(retinanet(), teacher)).items():
        config = detector_config(shapes, model, str(pair / name))
        config.val_evaluator.classwise = True
        config.experiment_name = f'{name}_of_a_report'
        train(config)
    return pair


def test_runs_are_reported_with_what_changed(runs):
    run('report.py', 'dist', 'student', '--images', 2, '--out', 'runs.html', cwd=runs)
    page = (runs / 'runs.html').read_text()
    assert 'loss_cls_dist' in page
    assert 'student alone' in page
    assert 'Images on which distillation changed most' in page or 'found by' not in page
    assert 'teacher.pth' in page  # from the record in the checkpoint
    assert 'mmkd.FrozenTeacher' in page or 'FrozenTeacher' in page
    assert re.search('Class by class.*disc', page, re.DOTALL)
    assert not re.search(r'src="(?!data:)', page)


@pytest.mark.parametrize(('options', 'message'), [
    (['nowhere'], 'no work dir `nowhere` .*; write the folder that'),
    (['.'], 'is not a work dir of a run: it has neither'),
    (['dist', '--images', '1'], '--images compares the student alone with a distilled run, but '
     'the student alone .* is not among the work dirs; add its work dir'),
    (['dist', 'student', '--names', 'a'], '--names has 1 names for 2 work dirs; write one for'),
    (['dist', 'dist'], 'two runs have the same name')])
def test_wrong_work_dirs_are_refused(runs, options, message):
    done = run('report.py', *options, cwd=runs, check=False)
    assert done.returncode in (1, 2)
    assert re.search(message, done.stderr)
    assert 'Traceback' not in done.stderr
