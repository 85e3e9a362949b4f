"""--unlabelled and --pseudo-labels of tools/train.py."""
import importlib
import shutil

import pytest
from conftest import detector_config, retinanet, save_teacher
from mmengine.config import Config
from support.tools import TOOLS


@pytest.fixture
def folder(shapes, tmp_path):
    """A folder with big.py, small.py, t.pth and images."""
    shutil.copytree(shapes, tmp_path / 'images', ignore=shutil.ignore_patterns('*.json'))
    (tmp_path / 'empty').mkdir()
    for name, width in (('small', 8), ('big', 12)):
        config = detector_config(shapes, retinanet(width=width), 'unused', **{
            'train_cfg.val_interval': 100})
        config.pop('work_dir')
        config.dump(str(tmp_path / f'{name}.py'))
    save_teacher(tmp_path / 't.pth', retinanet(width=12))
    return tmp_path


@pytest.fixture
def train(folder, monkeypatch, capfd):
    """Run the tool in this process; return its output and its error message."""
    monkeypatch.syspath_prepend(TOOLS)
    monkeypatch.chdir(folder)
    main, run = importlib.import_module('train').main, importlib.import_module('command').run

    def call(*words, has_teacher=True):
        teacher = ['--teacher', 'big.py', '--teacher-checkpoint', 't.pth'] if has_teacher else []
        monkeypatch.setattr('sys.argv', ['train.py', 'small.py', *teacher, '--work-dir', 'run',
                                         *words])
        stopped = None
        try:
            run(main)
        except SystemExit as error:
            stopped = error.code
        return stopped, ''.join(capfd.readouterr())

    return call


@pytest.mark.slow
def test_a_folder_and_pseudo_labels(folder, train):
    stopped, said = train('--unlabelled', 'images', '--pseudo-labels', '0.01')
    assert not stopped
    assert 'unlabelled.loss_cls:' in said
    assert 'unlabelled.loss_cls_dist:' in said
    model = Config.fromfile(str(folder / 'run' / 'distill.py')).model
    assert model.unlabelled == str(folder / 'images')
    labels, = (one for one in model.distill if one.type == 'mmkd.PseudoLabels')
    assert labels.score_thr == 0.01


@pytest.mark.slow
def test_a_config_of_images(folder, train):
    _, said = train('--unlabelled', 'big.py', '--pseudo-labels')
    assert 'unlabelled.loss_cls_dist:' in said
    assert 'Unlabelled images: 4' in said
    assert Config.fromfile(str(folder / 'run' / 'distill.py')).model.distill[-1].score_thr == 0.5


@pytest.mark.parametrize(('words', 'has_teacher', 'message'), [
    (['--pseudo-labels'], True, '--pseudo-labels needs --unlabelled FOLDER'),
    (['--unlabelled', 'nowhere'], True, '--unlabelled nowhere: expected a folder of images, or a'),
    (['--unlabelled', 'empty'], True, '/empty`, has no images'),
    (['--unlabelled', 'images'], False,
     'small.py has no teacher for these images; write --teacher'),
    (['--unlabelled', 'images', '--pseudo-labels', '1.5'], True, '`score_thr` must be from 0 to 1'),
    (['--unlabelled', 'images', '--pseudo-labels', 'high'], True, "invalid float value: 'high'"),
    (['--unlabelled', 'images', '--generations', '2'], True,
     '--unlabelled cannot be combined with --prepare')])
def test_what_does_not_go_together_is_refused(train, words, has_teacher, message):
    stopped, said = train(*words, has_teacher=has_teacher)
    assert stopped
    said += str(stopped)
    assert message in said
    assert 'Traceback' not in said
