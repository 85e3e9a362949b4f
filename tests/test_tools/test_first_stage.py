"""The first stage of a method with the tool, and the second stage with its file."""
import pytest
from conftest import detector_config, retinanet, save_teacher, segmentor, segmentor_config
from mmengine.config import Config
from mmseg.datasets import CityscapesDataset
from support.tools import run_tool

STREETS = CityscapesDataset.METAINFO['classes']


@pytest.fixture
def folder(request, shapes, streets, tmp_path):
    """A folder with big.py, small.py and t.pth."""
    is_segmentor = request.param == 'segmentor'
    make, make_config = (segmentor, segmentor_config) if is_segmentor else (
        retinanet, detector_config)
    for name, width in (('small', 8), ('big', 12)):
        config = make_config(streets if is_segmentor else shapes, make(width=width), 'unused')
        config.pop('work_dir')
        config.dump(str(tmp_path / f'{name}.py'))
    save_teacher(tmp_path / 't.pth', make(width=12), classes=STREETS if is_segmentor else (
        'disc', 'square', 'cross'), scope='mmseg' if is_segmentor else 'mmdet')
    return tmp_path


def prepare(folder, method, *more):
    return run_tool('train.py', 'big.py', '--prepare', method, '--teacher-checkpoint', 't.pth',
                    '--work-dir', f'{method}_tokens', '--cfg-options', 'train_cfg.max_iters=2',
                    'default_hooks.checkpoint.interval=2', *more, cwd=folder)


def distil(folder, method, *more, check=True):
    return run_tool('train.py', 'small.py', '--teacher', 'big.py', '--teacher-checkpoint', 't.pth',
                    '--method', method, '--work-dir', 'run', *more, cwd=folder, check=check)


@pytest.mark.parametrize(('folder', 'method'), [
    ('detector', 'maskd'),
    *(pytest.param(kind, method, marks=pytest.mark.slow) for kind, method in (
        ('segmentor', 'maskd'), ('detector', 'freekd'), ('segmentor', 'freekd')))],
    indirect=['folder'])
def test_both_stages(folder, method):
    out = distil(folder, method, check=False)
    assert out.returncode
    assert (f'`tokens`, the file of its first stage: write it by `python tools/train.py TEACHER.py '
            f'--prepare {method}`') in out.stderr
    prepare(folder, method)
    file = folder / f'{method}_tokens' / 'prepared.pth'
    assert file.is_file()
    assert (folder / f'{method}_tokens' / 'iter_2.pth').is_file()
    out = distil(folder, method, '--prepared', f'{method}_tokens/prepared.pth')
    entry = Config.fromfile(str(folder / 'run' / 'distill.py')).model.distill[0]
    assert entry.tokens == str(file)
    assert f'loss_{entry.on}_{method}' in out.stdout + out.stderr


@pytest.mark.slow
@pytest.mark.parametrize('folder', ['detector'], indirect=True)
def test_what_cannot_be_prepared_is_refused(folder):
    for words, message in ((('--prepare', 'kd'), 'expected one method with a first stage'),
                           (('--prepare', 'maskt'), 'no method `maskt`'),
                           (('--prepare', 'maskd', '--method', 'kd'), 'cannot be combined with '
                                                                      '--teacher'),
                           (('--prepared', 'x.pth'), '--prepared, --classes and --assistant need')):
        out = run_tool('train.py', 'big.py', *words, '--teacher-checkpoint', 't.pth', cwd=folder,
                       check=False)
        assert out.returncode
        assert message in out.stderr
        assert 'Traceback' not in out.stderr
    out = distil(folder, 'maskd', '--prepared', 'no.pth', check=False)
    assert 'no file at' in out.stderr
    out = distil(folder, 'kd', '--prepared', 't.pth', check=False)
    assert '--prepared t.pth, but `kd` has no first stage; leave it out' in out.stderr
    out = run_tool('train.py', 'big.py', '--prepare', 'maskd', '--teacher-checkpoint', 'none',
                   cwd=folder, check=False)
    assert '`none`, random weights' in out.stderr
