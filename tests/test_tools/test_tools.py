"""The command-line tools, run like a user runs them."""
import argparse
import glob
import importlib
import itertools
import json
import os
import pathlib
import pickle
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import (
    detector_config,
    distiller,
    retinanet,
    save_teacher,
    saved_at,
    segmentor,
    segmentor_config,
)
from mmengine.config import Config
from support.tools import TOOLS
from support.tools import run_tool as run

from mmkd import HOOKS


@pytest.fixture
def config(shapes, tmp_path):
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet())
    config = detector_config(shapes, distiller(retinanet(), teacher), 'unused')
    config.pop('work_dir')
    config.default_hooks.visualization = dict(type='DetVisualizationHook')
    config.auto_scale_lr = dict(base_batch_size=16)
    config.dump(str(tmp_path / 'dist.py'))
    return 'dist.py'


def test_train_then_resume_then_test(config, tmp_path):
    run('train.py', config, cwd=tmp_path)
    first = tmp_path / 'work_dirs' / 'dist' / 'epoch_1.pth'
    assert first.is_file()
    out = run('train.py', config, '--resume', '--auto-scale-lr', '--cfg-options',
              'train_cfg.max_epochs=2', cwd=tmp_path)
    assert 'resumed epoch: 1' in out.stdout + out.stderr
    saved = saved_at(tmp_path / 'work_dirs' / 'dist' / 'epoch_2.pth')
    assert saved['meta']['epoch'] == 2
    run('train.py', config, '--resume', first, '--work-dir', 'again', '--cfg-options',
        'train_cfg.max_epochs=2', cwd=tmp_path)
    assert (tmp_path / 'again' / 'epoch_2.pth').is_file()

    (tmp_path / 'teacher.pth').unlink()
    out = run('test.py', config, first, '--work-dir', 'tested', '--out', 'found.pkl',
              '--show-dir', 'shown', cwd=tmp_path)
    assert 'coco/bbox_mAP' in out.stdout + out.stderr
    with open(tmp_path / 'found.pkl', 'rb') as file:
        found = pickle.load(file)
    assert len(found) == 4
    assert {'pred_instances', 'img_id'} <= set(found[0])
    assert len(glob.glob(str(tmp_path / 'tested' / '*' / 'shown' / '*.png'))) == 4


@pytest.mark.slow
def test_segmentor_has_the_scores_of_mmseg_and_cityscapes(streets, tmp_path):
    from mmseg.datasets import CityscapesDataset
    teacher = save_teacher(tmp_path / 'teacher.pth', segmentor(depth=50),
                           CityscapesDataset.METAINFO['classes'], scope='mmseg')
    config = segmentor_config(
        streets, distiller(segmentor(), teacher), 'unused', custom_hooks=[
            dict(type='mmkd.TeacherEvalHook')])
    config.pop('work_dir')
    config.val_evaluator = config.test_evaluator = [
        dict(type='IoUMetric', iou_metrics=['mIoU']),
        dict(type='CityscapesMetric', output_dir='predicted', keep_results=True)]
    config.default_hooks.visualization = dict(type='SegVisualizationHook', interval=1)
    config.dump(str(tmp_path / 'seg.py'))
    out = run('train.py', 'seg.py', cwd=tmp_path)
    assert 'Before training, mIoU: teacher' in out.stdout + out.stderr
    (tmp_path / 'teacher.pth').unlink()
    out = run('test.py', 'seg.py', 'work_dirs/seg/iter_2.pth', '--work-dir', 'tested',
              '--out', 'found.pkl', '--show-dir', 'shown', cwd=tmp_path)
    text = out.stdout + out.stderr
    assert 'mIoU' in text
    assert 'averageScoreCategories' in text
    assert len(glob.glob(str(tmp_path / 'predicted' / '*.png'))) == 4
    with open(tmp_path / 'found.pkl', 'rb') as file:
        assert len(pickle.load(file)) == 4
    shown = glob.glob(str(tmp_path / 'shown' / '**' / '*.png'), recursive=True)
    assert len(shown) == 4

    # the options --out FOLDER and --tta of mmseg's own tool
    config.tta_model = dict(type='SegTTAModel')
    config.tta_pipeline = [dict(type='LoadImageFromFile'), dict(type='TestTimeAug', transforms=[
        [dict(type='RandomFlip', prob=0.), dict(type='RandomFlip', prob=1.)],
        [dict(type='LoadAnnotations')], [dict(type='PackSegInputs')]])]
    config.test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
    config.dump(str(tmp_path / 'seg.py'))
    out = run('test.py', 'seg.py', 'work_dirs/seg/iter_2.pth', '--out', 'pictures', '--tta',
              cwd=tmp_path)
    assert 'mIoU' in out.stdout + out.stderr
    assert len(glob.glob(str(tmp_path / 'pictures' / '*.png'))) == 4


def test_mistakes_on_the_command_line(config, tmp_path):
    result = run('test.py', config, 'x.pth', '--out', 'x.json', cwd=tmp_path, check=False)
    assert result.returncode == 1
    assert '--out must end in .pkl' in result.stderr
    content = Config.fromfile(str(tmp_path / config))
    content.pop('auto_scale_lr')
    content.dump(str(tmp_path / 'no_base.py'))
    result = run('train.py', 'no_base.py', '--auto-scale-lr', cwd=tmp_path, check=False)
    assert '--auto-scale-lr needs auto_scale_lr = dict(base_batch_size=...)' in result.stderr


def test_missing_teacher_stops_training_before_the_first_batch(config, tmp_path):
    (tmp_path / 'teacher.pth').unlink()
    result = run('train.py', config, cwd=tmp_path, check=False)
    assert result.returncode != 0
    assert 'no teacher checkpoint at' in result.stderr
    assert 'Epoch(train)' not in result.stdout + result.stderr


def test_digits_are_a_coco_and_a_cityscapes_data_set(tmp_path):
    import cv2
    import numpy as np
    run('make_digits.py', 'digits', '--train', '3', '--val', '2', cwd=tmp_path)
    run('make_digits.py', 'again', '--train', '3', '--val', '2', cwd=tmp_path)
    content = json.loads((tmp_path / 'digits/annotations/instances_train.json').read_text())
    assert len(content['images']) == 3
    assert [c['name'] for c in content['categories']] == list('0123456789')
    boxes = 0
    for image in content['images']:
        path = os.path.join('leftImg8bit', 'train', image['file_name'])
        pixels = cv2.imread(str(tmp_path / 'digits' / path))
        assert pixels.shape == (image['height'], image['width'], 3)
        assert np.array_equal(pixels, cv2.imread(str(tmp_path / 'again' / path)))
        label_path = path.replace('leftImg8bit/', 'gtFine/').replace(
            '_leftImg8bit.png', '_gtFine_labelTrainIds.png')
        labels = cv2.imread(str(tmp_path / 'digits' / label_path), cv2.IMREAD_GRAYSCALE)
        for item in (a for a in content['annotations'] if a['image_id'] == image['id']):
            x, y, w, h = map(int, item['bbox'])
            inside = labels[y:y + h, x:x + w]
            assert (inside == item['category_id']).any(0).sum() == w  # the box has no margin
            boxes += 1
    assert boxes == len(content['annotations']) > 3


def test_digits_fit_into_small_images(tmp_path):
    """The largest digits are 67 pixels wide."""
    run('make_digits.py', 'digits', '--size', '24', '--train', '8', '--val', '1', cwd=tmp_path)
    content = json.loads((tmp_path / 'digits/annotations/instances_train.json').read_text())
    assert len(content['annotations']) >= 8
    for one in content['annotations']:
        left, top, width, height = one['bbox']
        assert 0 <= left < left + width <= 24
        assert 0 <= top < top + height <= 24


def write_pair(folder, student, teacher):
    """Write the configs for compare.py: teacher, student alone, student with DIST."""
    folder.mkdir()
    student.dump(str(folder / 'student.py'))
    teacher.dump(str(folder / 'teacher.py'))
    (folder / 'dist.py').write_text('''
_base_ = ['./student.py']
model = dict(_delete_=True, type='mmkd.Distiller', student=_base_.model,
             teacher=dict(config='{{ fileDirname }}/teacher.py', checkpoint='set by the tool'),
             distill=[dict(type='mmkd.DISTLoss', on='cls')])
''')


@pytest.mark.slow
def test_compare_makes_table_curves_and_sheet(shapes, tmp_path):
    write_pair(tmp_path / 'pair', detector_config(shapes, retinanet(), 'unused'),
               detector_config(shapes, retinanet(width=12), 'unused'))
    out = run('compare.py', 'pair', '--seeds', '0', '1', '--sheet', '2', cwd=tmp_path).stdout
    work = tmp_path / 'work_dirs' / 'pair'
    results = json.loads((work / 'results.json').read_text())
    assert {name: len(runs) for name, runs in results.items()} == dict(
        teacher=1, student=2, dist=2)
    assert results['dist'][0]['parameters'] == results['student'][0]['parameters']
    assert results['teacher'][0]['parameters'] > results['student'][0]['parameters']
    assert '| student + DIST | 2 |' in out
    assert (work / 'curves.png').stat().st_size > 5000
    assert (work / 'sheet.png').stat().st_size > 5000
    again = run('compare.py', 'pair', '--seeds', '0', '1', '--sheet', '0', cwd=tmp_path).stdout
    assert again.count('finished before') == 5
    collected = run('compare.py', 'pair', '--collect', '--bootstrap', '20', cwd=tmp_path).stdout
    assert '| gain in AP | 95 % over images |' in collected
    trained = next(line for line in out.splitlines() if line.startswith('| teacher '))
    given = run('compare.py', 'pair', '--methods', 'student', '--sheet', '0', '--work-dir', 'other',
                '--teacher-checkpoint', results['teacher'][0]['checkpoint'], cwd=tmp_path).stdout
    tested = next(line for line in given.splitlines() if line.startswith('| teacher '))
    assert tested.split('|')[1:6] == trained.split('|')[1:6]
    assert [line.split('|')[2].strip() for line in collected.splitlines() if ' | ' in line] == [
        'seeds', '---', '1', '2', '2']


def test_compare_trains_again_after_changes(
        shapes, tmp_path, monkeypatch, capsys):
    """Nothing is trained: each run writes a numbered checkpoint and fixed figures."""
    monkeypatch.syspath_prepend(TOOLS)
    compare = importlib.import_module('compare')
    labels = tmp_path / 'labels.json'
    labels.write_text((pathlib.Path(shapes) / 'instances.json').read_text())
    student, teacher = (detector_config(shapes, retinanet(width=width), 'unused', **{
        'train_dataloader.dataset.ann_file': str(labels)}) for width in (8, 12))
    write_pair(tmp_path / 'pair', student, teacher)
    trained, count = [], itertools.count().__next__

    def train(config_path, folder, title, epochs):
        trained.append(os.path.relpath(folder, 'work_dirs/pair'))
        with open(os.path.join(folder, 'epoch_1.pth'), 'w') as file:
            file.write(f'{count()} {Config.fromfile(config_path).model}')

    monkeypatch.setattr(compare, 'train', train)
    monkeypatch.setattr(compare, 'read_figures', lambda folder: dict(
        AP=1., curve=[], seconds=1., checkpoint=os.path.abspath(f'{folder}/epoch_1.pth')))
    monkeypatch.setattr(compare, 'plot_curves', lambda *args: None)
    monkeypatch.chdir(tmp_path)

    def run_again(*options):
        trained.clear()
        monkeypatch.setattr('sys.argv', ['compare.py', 'pair', '--sheet', '0', *options])
        compare.main()
        return trained, capsys.readouterr().out

    everything = ['teacher/seed0', 'student/seed0', 'dist/seed0']
    assert run_again()[0] == everything
    assert run_again()[0] == []
    # The teacher's config has the same name and other content.
    teacher.optim_wrapper.optimizer.lr = 0.5
    teacher.dump(str(tmp_path / 'pair' / 'teacher.py'))
    found, said = run_again()
    assert found == ['teacher/seed0', 'dist/seed0']
    assert 'student + DIST, seed 0: trained again, because the content of model.teacher.' in said
    assert 'student alone, seed 0: finished before' in said
    # The same config is trained again, so the weights are others.
    (tmp_path / 'work_dirs/pair/teacher/seed0/result.json').unlink()
    found, said = run_again()
    assert found == ['teacher/seed0', 'dist/seed0']
    assert 'because the content of model.teacher.checkpoint has changed' in said
    content = json.loads(labels.read_text())
    content['annotations'].pop()
    labels.write_text(json.dumps(content))
    found, said = run_again()
    assert found == everything
    assert 'the content of train_dataloader.dataset.ann_file has changed' in said
    assert run_again('--holdout', '2')[0] == everything
    assert run_again('--holdout', '2')[0] == []
    assert run_again('--holdout', '3')[0] == everything
    (tmp_path / 'work_dirs/pair/student/seed0/epoch_1.pth').unlink()
    assert run_again('--holdout', '3')[0] == ['student/seed0']


def test_a_given_teacher_is_tested_once(shapes, tmp_path, monkeypatch, capsys):
    """It is validated as the students are, and the result of a trained one stays."""
    monkeypatch.syspath_prepend(TOOLS)
    compare = importlib.import_module('compare')
    student, teacher = (detector_config(shapes, retinanet(width=width), 'unused')
                        for width in (8, 12))
    for config in (student, teacher):
        for key in ('test_dataloader', 'test_evaluator', 'test_cfg'):
            config.pop(key)
    write_pair(tmp_path / 'pair', student, teacher)
    (tmp_path / 'given.pth').write_text('weights')
    calls = []

    def started(tool, words, folder, title, see=None):
        calls.append(os.path.basename(tool))
        if calls[-1] == 'test.py':
            config = Config.fromfile(words[0])
            assert config.test_dataloader == config.val_dataloader
            assert config.test_evaluator == config.val_evaluator
            path = pathlib.Path(folder, f'1{len(os.listdir(folder))}', 'scores.json')
            path.parent.mkdir()
            path.write_text(json.dumps({'coco/bbox_mAP': 0.4, 'time': 1.}))

    monkeypatch.setattr(compare, 'started', started)
    monkeypatch.setattr(compare, 'read_figures', lambda folder: dict(
        AP=30., curve=[[1, 30.]], seconds=1., checkpoint=os.path.abspath('given.pth')))
    monkeypatch.chdir(tmp_path)

    def compare_with(*words):
        calls.clear()
        monkeypatch.setattr('sys.argv', ['compare.py', 'pair', '--sheet', '0', '--methods',
                                         'student', *words])
        compare.main()
        return calls, capsys.readouterr().out

    given = '--teacher-checkpoint', 'given.pth'
    found, said = compare_with(*given)
    assert found == ['test.py', 'train.py']
    assert '| teacher | 1 | 40.0 |' in said
    found, said = compare_with(*given)
    assert found == []
    assert 'teacher: finished before, AP 40.0' in said
    assert '| teacher | 1 | 40.0 |' in compare_with('--collect')[1]
    (tmp_path / 'given.pth').write_text('other weights')
    found, said = compare_with(*given)
    assert found == ['test.py']
    assert 'teacher: tested again, because the content of the checkpoint has changed' in said
    assert compare_with()[0] == ['train.py']  # a teacher of its own
    assert compare_with(*given)[0] == []
    assert compare_with()[0] == []
    assert '| teacher | 1 | 30.0 |' in compare_with('--collect')[1]


def test_compare_trains_again_after_changes_of_a_module(shapes, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(TOOLS)
    monkeypatch.syspath_prepend(str(tmp_path))
    compare = importlib.import_module('compare')
    write_pair(tmp_path / 'pair', *(detector_config(shapes, retinanet(width=width), 'unused')
                                    for width in (8, 12)))
    own = tmp_path / 'loss_of_mine.py'
    own.write_text('BETA = 1')
    with open(tmp_path / 'pair' / 'dist.py', 'a') as file:
        file.write("custom_imports = dict(imports=['mmkd', 'loss_of_mine'])\n")
    trained = []

    def train(config_path, folder, title, epochs):
        trained.append(os.path.relpath(folder, 'work_dirs/pair'))
        pathlib.Path(folder, 'epoch_1.pth').write_text('the same')

    monkeypatch.setattr(compare, 'train', train)
    monkeypatch.setattr(compare, 'read_figures', lambda folder: dict(
        AP=1., curve=[], seconds=1., checkpoint=os.path.abspath(f'{folder}/epoch_1.pth')))
    monkeypatch.setattr(compare, 'plot_curves', lambda *args: None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.argv', ['compare.py', 'pair', '--sheet', '0'])
    compare.main()
    compare.main()
    assert trained == ['teacher/seed0', 'student/seed0', 'dist/seed0']
    own.write_text('BETA = 2')
    compare.main()
    assert trained[3:] == ['dist/seed0']
    assert 'trained again, because the content of the module loss_of_mine has changed' in (
        capsys.readouterr().out)
    # One that registers classes counts where one of them is named.
    text = '''from mmkd import HOOKS
@HOOKS.register_module(name='HookOfMine', force=True)
class One:
    number = 1
'''
    own.write_text(text)
    importlib.reload(sys.modules['loss_of_mine'])
    compare.main()
    del trained[:]
    own.write_text(text.replace('1', '2'))
    compare.main()
    assert trained == []
    with open(tmp_path / 'pair' / 'dist.py', 'a') as file:
        file.write("custom_hooks = [dict(type='mmkd.HookOfMine')]\n")
    compare.main()
    assert trained == ['dist/seed0']
    own.write_text(text.replace('1', '3'))
    compare.main()
    assert trained == ['dist/seed0'] * 2
    del HOOKS.module_dict['HookOfMine']


def test_run_without_a_score_is_reported_in_a_line(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    compare = importlib.import_module('compare')
    log = tmp_path / '1' / 'vis_data' / 'scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text('{"loss": 1.0, "time": 0.1, "step": 1}\n')
    with pytest.raises(SystemExit, match='scalars.json has no score of a validation, such as '
                       'coco/bbox_mAP; give the config a `val_dataloader`'):
        compare.read_figures(str(tmp_path))


def test_run_without_a_detection_has_a_score_of_zero(tmp_path, monkeypatch):
    """mmdet's CocoMetric returns no score for it."""
    monkeypatch.syspath_prepend(TOOLS)
    compare = importlib.import_module('compare')
    log = tmp_path / '1' / 'vis_data' / 'scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text('{"loss": 1.0, "time": 0.1, "step": 1}\n'
                   '{"data_time": 0.1, "time": 0.2, "step": 1}\n')
    (tmp_path / 'last_checkpoint').write_text('epoch_1.pth')
    found = compare.read_figures(str(tmp_path))
    assert (found['AP'], found['AP50'], found['curve']) == (0., 0., [[1, 0.]])
    log.write_text(log.read_text().replace('"data_time"', '"pascal_voc/mAP": 0.3, "data_time"'))
    with pytest.raises(SystemExit, match='no score of a validation, such as'):
        compare.read_figures(str(tmp_path))


def test_teachers_of_configs_of_other_folders(shapes, tmp_path, monkeypatch):
    """That of the compared folder has the same weights for all; another one must exist."""
    monkeypatch.syspath_prepend(TOOLS)
    compare = importlib.import_module('compare')
    student, teacher = (detector_config(shapes, retinanet(width=width), 'unused')
                        for width in (8, 12))
    write_pair(tmp_path / 'pair', student, teacher)
    for name, path in dict(same='pair/teacher.py', other='other/teacher.py').items():
        (tmp_path / name).mkdir()
        teacher.dump(str(tmp_path / name / 'teacher.py'))
        text = (tmp_path / 'pair' / 'dist.py').read_text()
        (tmp_path / name / 'kd.py').write_text(
            text.replace('./student.py', '../pair/student.py')
            .replace('{{ fileDirname }}/teacher.py', f'{{{{ fileDirname }}}}/../{path}')
            .replace('set by the tool', 'own.pth'))
    save_teacher(tmp_path / 'given.pth', retinanet(width=12))
    trained = {}

    def finish_run(args, name, seed, config):
        trained[name] = config
        return dict(checkpoint='given.pth')

    monkeypatch.setattr(compare, 'finish_run', finish_run)
    monkeypatch.setattr(compare, 'tested_teacher', lambda args, config: dict(
        checkpoint=args.teacher_checkpoint))
    monkeypatch.chdir(tmp_path)

    def run_all(*words):
        trained.clear()
        monkeypatch.setattr('sys.argv', ['compare.py', 'pair', *words])
        return compare.all_runs(compare.parse_args())

    for given in ((), ('--teacher-checkpoint', 'given.pth')):
        run_all('--methods', 'dist', 'same/kd.py', *given)
        for name in ('dist', 'same'):
            path = trained[name].model.teacher.checkpoint
            assert path == (str(tmp_path / 'given.pth') if given else 'given.pth')
        with pytest.raises(FileNotFoundError, match='no teacher checkpoint at `own.pth`'):
            run_all('--methods', 'dist', 'other/kd.py', *given)
        assert not trained, 'trained before all configs were checked'
    (tmp_path / 'own.pth').write_bytes(b'weights')
    run_all('--methods', 'dist', 'other/kd.py')
    assert trained['other'].model.teacher.checkpoint == 'own.pth'


@pytest.mark.slow
def test_compare_supports_segmentors(streets, tmp_path):
    write_pair(tmp_path / 'pair', segmentor_config(streets, segmentor(), 'unused'),
               segmentor_config(streets, segmentor(width=12), 'unused'))
    out = run('compare.py', 'pair', '--sheet', '2', cwd=tmp_path).stdout
    assert '| model | seeds | mIoU | mAcc | gain in mIoU | parameters |' in out
    assert '| student + DIST | 1 |' in out
    work = tmp_path / 'work_dirs' / 'pair'
    for picture in ('curves.png', 'sheet.png'):
        assert (work / picture).stat().st_size > 5000
    refused = run('compare.py', 'pair', '--holdout', '2', cwd=tmp_path, check=False)
    assert '--holdout needs a data set with a COCO annotation file' in refused.stderr


def plain(config, path, **changes):
    """Write a config without a fixed work dir."""
    config.pop('work_dir')
    config.merge_from_dict(changes)
    config.dump(str(path))


@pytest.mark.slow
def test_any_pair_can_be_distilled_without_a_config(shapes, tmp_path):
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet(width=12))
    plain(detector_config(shapes, retinanet(), 'unused'), tmp_path / 'small.py')
    plain(detector_config(shapes, retinanet(width=12), 'unused'), tmp_path / 'big.py')
    out = run('train.py', 'small.py', '--teacher', 'big.py', '--teacher-checkpoint', 'teacher.pth',
              '--method', 'dist+mimic', cwd=tmp_path).stdout
    assert 'bbox_head' in out
    assert '1x27x16x16' in out
    folder = tmp_path / 'work_dirs' / 'small_dist_mimic'
    assert (folder / 'epoch_1.pth').is_file()
    text = (folder / 'distill.py').read_text()
    assert len(text.splitlines()) < 20
    short = Config.fromfile(str(folder / 'distill.py'))
    assert short.model.distill == [dict(type='mmkd.DISTLoss', on='cls'),
                                   dict(type='mmkd.MSELoss', on='neck', connector='conv')]
    # The written file works like any other config, also from another folder.
    elsewhere = tmp_path / 'elsewhere'
    elsewhere.mkdir()
    (tmp_path / 'moved.py').write_text(text.replace('dist+mimic', ''))
    out = run('train.py', '../moved.py', '--work-dir', 'again', cwd=elsewhere)
    assert 'loss_neck_mse' in out.stdout + out.stderr
    assert teacher['checkpoint'] in text


@pytest.mark.slow
def test_an_edited_distillation_config_is_kept(shapes, tmp_path, monkeypatch, capsys):
    """A config that was edited is not overwritten. Nothing is trained."""
    monkeypatch.syspath_prepend(TOOLS)
    monkeypatch.chdir(tmp_path)
    tool, configs = importlib.import_module('train'), []

    class Runner:
        hooks = ()

        def train(self):
            """Do nothing."""

    monkeypatch.setattr(tool, 'build_runner', lambda config: configs.append(config) or Runner())
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet(width=12))['checkpoint']
    plain(detector_config(shapes, retinanet(), 'unused'), tmp_path / 'small.py')
    plain(detector_config(shapes, retinanet(width=12), 'unused'), tmp_path / 'big.py')

    def call(*options):
        monkeypatch.setattr('sys.argv', [
            'train.py', 'small.py', '--teacher', 'big.py', '--teacher-checkpoint', teacher,
            '--work-dir', 'run', *options])
        tool.main()
        return configs[-1]

    path = tmp_path / 'run' / 'distill.py'
    assert call().model.distill[0].type == 'mmkd.DISTLoss'
    written = path.read_text()
    shutil.copy(teacher, tmp_path / 'run' / 'epoch_1.pth')
    assert call('--resume').load_from == os.path.join('run', 'epoch_1.pth')
    assert path.read_text() == written
    assert call('--method', 'kd').model.distill[0].type == 'mmkd.KDLoss'  # not edited
    assert call('--method', 'auto').model.distill[0].type == 'mmkd.DISTLoss'
    assert '--method auto takes dist: DIST raised a one-stage student' in capsys.readouterr().out
    call('--method', 'kd')

    edited = path.read_text().replace("on='cls'", "on='cls', tau=4.")
    path.write_text(edited)
    for options in ([], ['--resume'], ['--method', 'dist']):
        with pytest.raises(ValueError, match='run/distill.py was edited after it was written, and '
                                             'is kept; run it by `tools/train.py run/distill.py '
                                             '--work-dir run`, or overwrite it by --overwrite'):
            call(*options)
        assert path.read_text() == edited
    assert call('--overwrite').model.distill[0].type == 'mmkd.DISTLoss'
    assert path.read_text() == written


def test_an_edited_config_in_its_work_dir_is_not_overwritten_by_its_run(
        shapes, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'run').mkdir()
    plain(detector_config(shapes, retinanet(), 'unused'), tmp_path / 'base.py')
    edited = "_base_ = ['../base.py']  # a comment\n"
    (tmp_path / 'run' / 'distill.py').write_text(edited)
    common = importlib.import_module('common')
    config = common.load_config(argparse.Namespace(
        config='run/distill.py', work_dir='run', cfg_options=None, launcher='none', local_rank=0))
    common.build_runner(config)  # MMEngine writes the complete config
    assert (tmp_path / 'run' / 'distill.py').read_text() == edited
    assert Config.fromfile(tmp_path / 'run' / 'complete_distill.py').model == config.model


def test_options_with_a_method_reach_the_right_config(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    split = importlib.import_module('train').split_options
    student = Config(dict(model=dict(type='A', neck=dict(out_channels=4))))
    options = {'model.neck.out_channels': 8, 'model.student.neck.num_outs': 5, 'train_cfg.x': 1,
               'model.distill.0.loss_weight': 2., 'model.teacher.checkpoint': None}
    assert split(options, student) == (
        {'model.neck.out_channels': 8, 'model.neck.num_outs': 5, 'train_cfg.x': 1},
        {'model.student.neck.out_channels': 8, 'model.student.neck.num_outs': 5, 'train_cfg.x': 1,
         'model.distill.0.loss_weight': 2., 'model.teacher.checkpoint': None})
    # a plain model may have a `teacher`, too
    own = Config(dict(model=dict(type='A', teacher=dict(depth=1))))
    assert split({'model.teacher.depth': 2}, own) == (
        {'model.teacher.depth': 2}, {'model.student.teacher.depth': 2})


def test_files_of_earlier_versions_have_no_digest(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    files = importlib.import_module('written')
    path = str(tmp_path / 'new' / 'distill.py')
    files.write_kept(path, 'x = 1\n', 'train.py', 'run', False)
    files.check_edited(path, 'run', False)
    with open(path, 'w') as file:
        file.write('x = 1\n')
    files.write_kept(path, 'x = 1\n', 'train.py', 'run', False)
    with open(path, 'w') as file:
        file.write('x = 2\n')
    with pytest.raises(ValueError, match='distill.py was edited .* run it by `run`'):
        files.write_kept(path, 'x = 1\n', 'train.py', 'run', False)


def test_pair_without_the_points_lists_its_points(shapes, tmp_path):
    other = retinanet(anchor_generator=dict(scales_per_octave=1))
    plain(detector_config(shapes, retinanet(), 'unused'), tmp_path / 'small.py')
    plain(detector_config(shapes, other, 'unused'), tmp_path / 'big.py')
    result = run('train.py', 'small.py', '--teacher', 'big.py', '--teacher-checkpoint', 'none',
                 cwd=tmp_path, check=False)
    assert result.returncode == 1
    assert '`dist` has nothing to compare in this pair; `cls`: ' in result.stderr
    assert '`neck`, `backbone`' in result.stderr
    out = run('inspect_pair.py', 'small.py', 'big.py', cwd=tmp_path).stdout
    assert 'anchors' in out
    assert 'as it is' in out
    result = run('train.py', 'small.py', '--method', 'kd', cwd=tmp_path, check=False)
    assert '--method, --prepared, --classes and --assistant need --teacher' in result.stderr


def test_imports_of_the_student_are_kept(streets, tmp_path):
    from mmseg.datasets import CityscapesDataset
    save_teacher(tmp_path / 'teacher.pth', segmentor(depth=50),
                 CityscapesDataset.METAINFO['classes'], scope='mmseg')
    config = segmentor_config(streets, segmentor(), 'unused')
    config.custom_imports = dict(imports='json')  # MMEngine also allows a string
    plain(config, tmp_path / 'small.py')
    plain(segmentor_config(streets, segmentor(depth=50), 'unused'), tmp_path / 'big.py')
    run('train.py', 'small.py', '--teacher', 'big.py', '--teacher-checkpoint', 'teacher.pth',
        '--method', 'kd', '--cfg-options', 'model.decode_head.dropout_ratio=0.2',
        'train_cfg.max_iters=1',
        cwd=tmp_path)
    whole = Config.fromfile(str(tmp_path / 'work_dirs' / 'small_kd' / 'small_kd.py'))
    assert whole.model.student.decode_head.dropout_ratio == 0.2
    assert whole.train_cfg.max_iters == 1
    config = Config.fromfile(str(tmp_path / 'work_dirs' / 'small_kd' / 'distill.py'))
    assert config.custom_imports.imports == ['mmkd', 'json']
    assert config.model.distill == [dict(type='mmkd.KDLoss', on='cls'),
                                    dict(type='mmkd.KDLoss', on='aux', loss_weight=0.4)]


@pytest.mark.slow
def test_two_processes_equal_one_with_the_whole_batch(streets, tmp_path):
    """Frozen batch norms, group norms, and a connector. Both runs have the same order of images."""
    group_norm = dict(type='GN', num_groups=4)
    student = segmentor(norm_cfg=group_norm, dropout_ratio=0.)
    student['backbone']['norm_eval'] = True
    student['auxiliary_head'].update(norm_cfg=group_norm, dropout_ratio=0.)
    teacher = save_teacher(tmp_path / 'teacher.pth', segmentor(width=12), (), scope='mmseg')
    config = segmentor_config(streets, distiller(
        student, teacher, dict(type='mmkd.KDLoss', on='cls'),
        dict(type='mmkd.MSELoss', on='backbone')), 'unused')
    pipeline = config.train_dataloader.dataset.pipeline
    pipeline[2:4] = [dict(type='Resize', scale=(64, 64))]
    config.train_dataloader.sampler.shuffle = False
    config.dump(str(tmp_path / 'config.py'))
    run('train.py', 'config.py', '--work-dir', 'one', cwd=tmp_path)
    done = subprocess.run(
        ['bash', os.path.join(TOOLS, 'dist_train.sh'), 'config.py', '2', '--work-dir',
         'two', '--cfg-options', 'train_dataloader.batch_size=1'], cwd=tmp_path, text=True,
        capture_output=True, env=dict(os.environ, PORT=str(20000 + os.getpid() % 10000), PATH=(
            os.path.dirname(sys.executable) + os.pathsep + os.environ['PATH'])))
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (saved_at(tmp_path / name / 'iter_2.pth') for name in ('one', 'two'))
    beside = [[connector[key] for connector in (saved['mmkd']['connectors']['loss_backbone_mse'], )
               for key in sorted(connector)] for saved in (one, two)]
    assert beside[0]
    torch.testing.assert_close(*beside, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(one['state_dict'], two['state_dict'], rtol=1e-4, atol=1e-5)
