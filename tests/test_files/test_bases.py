"""Hooks and imports of the base that a distillation config loses are reported, and no others."""
import glob
import os
import sys

import pytest
from conftest import detector_config, retinanet, train
from mmengine.config import Config
from support.neighbours import needs
from support.tools import ROOT

from mmkd.files.bases import base_files, lost_lists

CONFIGS = sorted(glob.glob(os.path.join(ROOT, 'configs', '**', '*.py'), recursive=True))
STUDENT = """
model = dict(type='RetinaNet')
custom_hooks = [dict(type='EMAHook', momentum=0.1), dict(type='EmptyCacheHook')]
"""
DISTILLED = """
_base_ = {bases}
model = dict(_delete_=True, type='mmkd.Distiller', student=_base_.model, hooks=[{own}])
"""
HOOK = "dict(type='mmkd.ReseedHook')"


def write(folder, **files):
    for name, text in files.items():
        (folder / f'{name}.py').write_text(text)


def lost(folder, name, **options):
    config = Config.fromfile(str(folder / f'{name}.py'), import_custom_modules=False)
    config.merge_from_dict(options)
    return [(one.key, one.names, os.path.basename(one.base)) for one in lost_lists(config)]


@pytest.mark.parametrize(('hooks', 'own', 'expected'), [
    (None, '', []),
    (f'[{HOOK}]', '', ['EMAHook', 'EmptyCacheHook']),
    (f'[*_base_.custom_hooks, {HOOK}]', '', []),
    # Hooks count as kept with other arguments, by their full name, and in the list of the
    # Distiller.
    (f"[dict(type='mmengine.EMAHook', momentum=0.5), {HOOK}]", '', ['EmptyCacheHook']),
    (f'[{HOOK}]', "dict(type='EMAHook')", ['EmptyCacheHook']),
    (None, HOOK, []),
])
def test_hooks_that_are_lost(tmp_path, hooks, own, expected):
    text = DISTILLED.format(bases=['student.py'], own=own)
    write(tmp_path, student=STUDENT,
          distill=text + (f'custom_hooks = {hooks}\n' if hooks else ''))
    assert lost(tmp_path, 'distill') == (
        [('custom_hooks', expected, 'student.py')] if expected else [])


def test_two_hooks_of_a_type_are_both_reported(tmp_path):
    write(tmp_path, student=STUDENT.replace('EmptyCacheHook', 'EMAHook'),
          distill=DISTILLED.format(bases=['student.py'], own='') +
          "custom_hooks = [dict(type='EMAHook')]\n")
    assert lost(tmp_path, 'distill') == [('custom_hooks', ['EMAHook'], 'student.py')]


def test_lists_replaced_by_a_base_distillation_config_are_found(tmp_path):
    write(tmp_path, student=STUDENT,
          distill=DISTILLED.format(bases=['./student.py'], own='') + f'custom_hooks = [{HOOK}]\n',
          variant="_base_ = './distill.py'\n")
    assert lost(tmp_path, 'variant') == [
        ('custom_hooks', ['EMAHook', 'EmptyCacheHook'], 'student.py')]
    write(tmp_path, variant="_base_ = './distill.py'\ncustom_hooks = []\n")
    assert lost(tmp_path, 'variant') == [
        ('custom_hooks', ['ReseedHook'], 'distill.py'),
        ('custom_hooks', ['EMAHook', 'EmptyCacheHook'], 'student.py')]


def test_lists_replaced_by_plain_configs_are_not_reported(tmp_path):
    write(tmp_path, base=STUDENT, student="_base_ = ['base.py']\ncustom_hooks = []\n",
          distill=DISTILLED.format(bases=['student.py'], own=''))
    assert lost(tmp_path, 'distill') == []


def test_configs_with_the_distill_hook(tmp_path):
    write(tmp_path, student=STUDENT, hook="_base_ = ['student.py']\n"
          "custom_hooks = [dict(type='mmkd.DistillHook')]\n", more="_base_ = ['hook.py']\n")
    for name in ('hook', 'more'):
        assert lost(tmp_path, name) == [
            ('custom_hooks', ['EMAHook', 'EmptyCacheHook'], 'student.py')]


def test_command_line_options_count(tmp_path):
    write(tmp_path, student=STUDENT, distill=DISTILLED.format(bases=['student.py'], own=''))
    assert lost(tmp_path, 'distill', custom_hooks=[]) == [
        ('custom_hooks', ['EMAHook', 'EmptyCacheHook'], 'student.py')]


def test_base_of_an_installed_package():
    path = os.path.join(ROOT, 'configs', '_base_', 'pairs', 'retinanet_r50_x101.py')
    assert [os.path.basename(one) for one in base_files(path)] == ['retinanet_r50_fpn_2x_coco.py']
    assert os.path.isfile(base_files(path)[0])


def test_imports_that_are_lost(tmp_path):
    text = DISTILLED.format(bases=['student.py'], own='')
    imports = "custom_imports = dict(imports={})\n"
    write(tmp_path, student=STUDENT + imports.format(['my_heads', 'json']),
          distill=text + imports.format(['mmkd']),
          kept=text + imports.format(['mmkd', 'my_heads']))
    assert 'json' in sys.modules  # imported elsewhere, so it is not lost
    assert lost(tmp_path, 'distill') == [('custom_imports', ['my_heads'], 'student.py')]
    assert lost(tmp_path, 'kept') == []


def test_new_style_of_config(tmp_path):
    os.makedirs(tmp_path / 'bases')
    write(tmp_path / 'bases', student="""
from mmengine.hooks import EMAHook, EmptyCacheHook

model = dict(type='RetinaNet')
custom_hooks = [dict(type=EMAHook), dict(type=EmptyCacheHook)]
""")
    write(tmp_path, distill="""
from mmengine.config import read_base

with read_base():
    from .bases.student import *

from mmengine.hooks import EmptyCacheHook
from mmkd import Distiller

model = dict(type=Distiller, student=model)
custom_hooks = [dict(type=EmptyCacheHook)]
""")
    assert lost(tmp_path, 'distill') == [('custom_hooks', ['EMAHook'], 'student.py')]


def test_config_without_a_file_has_no_findings(tmp_path):
    assert lost_lists(Config(dict(custom_hooks=[]))) == []
    write(tmp_path, gone='custom_hooks = []\n')
    config = Config.fromfile(str(tmp_path / 'gone.py'))
    os.remove(tmp_path / 'gone.py')
    assert lost_lists(config) == []


@pytest.mark.slow
@pytest.mark.parametrize('path', CONFIGS, ids=[os.path.relpath(one, ROOT) for one in CONFIGS])
def test_configs_of_the_repository_lose_nothing(path):
    try:
        config = Config.fromfile(path)
    except ModuleNotFoundError as error:
        if 'mmpretrain' not in str(error):
            raise
        needs('mmpretrain')  # it has the base of this config
        raise
    assert lost_lists(config) == []


def written(shapes, tmp_path, plain, distilled):
    """Return the config of a run whose base has hooks or imports."""
    config = detector_config(shapes, retinanet(), str(tmp_path / 'run'))
    config.merge_from_dict(plain)
    if not any(key.startswith('custom_imports') for key in plain):
        config.pop('custom_imports')
    config.dump(str(tmp_path / 'student.py'))
    write(tmp_path, distill="_base_ = ['student.py']\n" + distilled)
    return Config.fromfile(str(tmp_path / 'distill.py'))


TEACHER = "dict(config='{folder}/student.py', checkpoint=None)"
MODEL = ("model = dict(_delete_=True, type='mmkd.Distiller', student=_base_.model, "
         f"distill=[dict(type='mmkd.KDLoss', on='cls')], teacher={TEACHER})\n")
WAYS = {
    'model': MODEL + 'custom_hooks = [dict(type="mmkd.ReseedHook")]\n',
    'hook': "custom_hooks = [dict(type='mmkd.DistillHook', distill=[dict(type='mmkd.KDLoss', "
            f"on='cls')], teacher={TEACHER})]\n"}


@pytest.mark.parametrize('way', WAYS)
def test_run_warns_once_before_its_first_batch(shapes, tmp_path, way):
    config = written(shapes, tmp_path, dict(custom_hooks=[dict(type='EMAHook')]),
                     WAYS[way].format(folder=tmp_path))
    train(config)
    log, = (tmp_path / 'run').rglob('*.log')
    text = log.read_text()
    said = '`custom_hooks` of this config replaces that of its base'
    assert text.count(said) == 1
    line = next(line for line in text.splitlines() if said in line)
    assert 'WARNING' in line
    assert 'leaves out `EMAHook`' in line
    assert '[*_base_.custom_hooks, ...]' in line
    assert text.index(said) < text.index('Epoch(train)')


def test_student_whose_import_is_lost_is_refused_with_its_name(shapes, tmp_path, monkeypatch):
    """The error names the lost import that registers the student's class."""
    monkeypatch.syspath_prepend(str(tmp_path))
    write(tmp_path, my_detector="""
from mmdet.models import RetinaNet
from mmdet.registry import MODELS


@MODELS.register_module()
class MyDetector(RetinaNet):
    pass
""")
    imports = "custom_imports = dict(imports=[{}], allow_failed_imports=False)\n"
    config = written(shapes, tmp_path, {
        'custom_imports.imports': ['my_detector'], 'model.type': 'MyDetector'},
        MODEL.format(folder=tmp_path) + imports.format("'mmkd'"))
    with pytest.raises(ValueError, match='(?s)MyDetector.*leaves out `my_detector`.*write custom'):
        train(config)
    write(tmp_path, distill="_base_ = ['student.py']\n" + MODEL.format(folder=tmp_path) +
          imports.format("'mmkd', *_base_.custom_imports.imports"))
    _, losses = train(Config.fromfile(str(tmp_path / 'distill.py')))
    assert losses[0]['loss_cls_kd'] > 0
