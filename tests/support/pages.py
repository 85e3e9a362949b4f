"""Puts the config of a page of the documentation on top of a small pair of models.

The pages name files of a reader: `student.py`, `teacher.py`, `teacher.pth`. A folder has such files
with small models. Models of a zoo, `mmdet::...`, must exist, and are replaced by those.
"""
import ast
import copy
import inspect
import re
import shutil
from typing import Any, Dict, Iterator, List

import torch
from conftest import (
    CLASSES,
    build,
    detector_config,
    retinanet,
    save_teacher,
    segmentor,
    segmentor_config,
    two_stage,
)
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import HOOKS, OPTIM_WRAPPERS, OPTIMIZERS, VISUALIZERS, DefaultScope
from mmseg.datasets import CityscapesDataset as CITYSCAPES

import mmkd
from mmkd.files.zoo import config_path, published_checkpoint
from mmkd.hooks import DistillHook

OTHER = ('cell', 'car', 'truck', 'bus')
ARGUMENTS = set(inspect.signature(mmkd.Distiller).parameters) - {'student'}
TEACHER = "dict(config='teacher.py', checkpoint='teacher.pth')"
DISTILL = "[dict(type='mmkd.DISTLoss', on='cls')]"
PAIR = '''_base_ = ['./student.py']
model = dict(_delete_=True, type='mmkd.Distiller', student=_base_.model, {})
'''


class Base:
    """A small pair: configs and weights under the names that the pages use.

    Args:
        name (str): What a page says in `<!-- on: NAME -->`; with ' without teacher' the teacher is
            left out of the configs.
        folder (Path): Where the files are written.
        data (str): Folder of the images.
    """

    def __init__(self, name: str, folder: Any, data: str) -> None:
        self.folder = folder
        name, _, without = name.partition(' without ')
        self.has_teacher = without != 'teacher'
        self.scope = dict(segmentor='mmseg', classifier='mmpretrain').get(name, 'mmdet')
        self.classes, of_teacher = CLASSES, CLASSES
        if name == 'segmentor':
            self.student, self.teacher = segmentor(), segmentor(width=16)
            self.classes = of_teacher = None
        elif name == 'classifier':
            from support import classifiers
            self.student, self.teacher = [classifiers.resnet(width) for width in (8, 16)]
            self.classes = of_teacher = classifiers.CLASSES
        elif name in ('two-stage', 'cascade'):
            kind = dict(cascade='cascade-rcnn').get(name, 'faster-rcnn')
            self.student, self.teacher = two_stage(kind), two_stage(kind, width=16)
        elif name == 'other classes':
            self.classes, of_teacher = ('RBC', 'vehicle', 'rider'), OTHER
            self.student, self.teacher = retinanet(), retinanet(width=16, classes=len(OTHER))
        elif name == 'one-stage':
            self.student, self.teacher = retinanet(), retinanet(width=16)
        else:
            raise ValueError(f'no models for <!-- on: {name} -->')
        for side, model, classes in (('student', self.student, self.classes),
                                     ('teacher', self.teacher, of_teacher)):
            self._config(data, model, classes).dump(str(folder / f'{side}.py'))
            save_teacher(folder / f'{side}.pth', model, classes or CITYSCAPES.METAINFO['classes'],
                         scope=self.scope)
        terms = DISTILL if self.scope != 'mmdet' else (
            "[dict(type='mmkd.DISTLoss', on='cls'), dict(type='mmkd.MSELoss', on='neck')]")
        (folder / 'distill.py').write_text(PAIR.format(
            f'teacher={TEACHER}, distill={terms}' if self.has_teacher else ''))
        (folder / 'my_loss.py').write_text('')
        (folder / 'data').symlink_to(data)
        self._labels(data)

    def provide(self, code: str) -> None:
        """Write the configs and weights that a text names: of the teacher where it says `teacher`
        or `other.`, and otherwise of the student."""
        for name, kind in re.findall(r"'([\w./-]+(\.py|\.pth))'", code):
            side = 'teacher' if re.match(r'(teacher|other)\.', name) else 'student'
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                shutil.copy(self.folder / f'{side}{kind}', path)

    def _config(self, data: str, model: dict, classes: Any) -> Config:
        work_dir = str(self.folder / 'run')
        if self.scope == 'mmpretrain':
            from support import classifiers
            config = classifiers.config(data, model, work_dir)
        else:
            config = segmentor_config(data, model, work_dir) if self.scope == 'mmseg' else (
                detector_config(data, model, work_dir, classes))
        config.train_pipeline = config.train_dataloader.dataset.pipeline
        config.custom_hooks = [] if self.scope == 'mmpretrain' else [dict(type='EmptyCacheHook')]
        return config

    def _labels(self, data: str) -> None:
        """Images without labels, and labels of a teacher."""
        for name in ('IMAGES', 'path/to/images'):
            (self.folder / name).mkdir(parents=True)
        for path in sorted(self.folder.glob('data/*.png')):
            shutil.copy(path, self.folder / 'IMAGES')
            shutil.copy(path, self.folder / 'path/to/images')
        if (self.folder / 'data/instances.json').exists():
            (self.folder / 'labels').mkdir()
            shutil.copy(self.folder / 'data/instances.json',
                        self.folder / 'labels' / 'annotations.json')


def variants(tree: ast.Module) -> Iterator[Dict[str, ast.expr]]:
    """The configs of a block: one, or several where it assigns a name again."""
    now: Dict[str, ast.expr] = {}
    for one in tree.body:
        assert isinstance(one, ast.Assign)
        assert isinstance(one.targets[0], ast.Name)
        name = one.targets[0].id
        if name in now:
            yield now
            now = {}
        now = {**now, name: one.value}
    yield now


class Small(ast.NodeTransformer):
    """Replaces models of a zoo by the small teacher, after a look whether they exist."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        given = {one.arg: one for one in node.keywords}
        name = getattr(given['config'].value, 'value', None) if 'config' in given else None
        if isinstance(name, str) and '::' in name:
            assert config_path(name)
            if 'checkpoint' not in given:
                assert published_checkpoint(name)
                node.keywords.append(ast.keyword('checkpoint', ast.Constant('teacher.pth')))
            given['config'].value = ast.Constant('teacher.py')
        return node


def text_of(given: Dict[str, ast.expr], base: Base) -> str:
    """The text of a config that has what a block has."""
    small = {name: ast.unparse(Small().visit(copy.deepcopy(value)))
             for name, value in given.items()}
    if set(small) <= ARGUMENTS:
        defaults = dict(distill=DISTILL)
        if base.has_teacher and 'companions' not in small:
            defaults['teacher'] = TEACHER
        small = {**defaults, **small}
        return PAIR.format(', '.join(f'{name}={value}' for name, value in small.items()))
    lines = [f'{name} = {value}' for name, value in small.items() if name != '_base_']
    below = './student.py' if '_delete_=True' in small.get('model', '') or (
        'custom_hooks' in small and 'model' not in small) else './distill.py'
    if '_base_' in small:
        below, = ast.literal_eval(small['_base_'])
        if '::' in below:
            assert config_path(below)
            below = './student.py'
    return '\n'.join([f'_base_ = [{below!r}]', *lines])


def check(config: Config, base: Base) -> None:
    """What mmkd checks before the first batch, and what MMEngine builds."""
    model = copy.deepcopy(config.model)
    with DefaultScope.overwrite_default_scope(base.scope):
        hooks = [HOOKS.build(copy.deepcopy(one)) for one in config.get('custom_hooks', [])]
        Compose(copy.deepcopy(_pipeline(config.train_dataloader.dataset)))
        if 'visualizer' in config:
            VISUALIZERS.get(config.visualizer.type)
        kind = OPTIM_WRAPPERS.get(config.optim_wrapper.get('type', 'OptimWrapper'))
        optimizer = OPTIMIZERS.build(dict(config.optim_wrapper.optimizer, params=[
            torch.nn.Parameter(torch.zeros(1))]))
        kind(**{key: value for key, value in config.optim_wrapper.items()
                if key not in ('type', 'optimizer', 'paramwise_cfg', 'constructor')},
             optimizer=optimizer)
    for hook in hooks:
        if isinstance(hook, DistillHook):
            model = dict(type='mmkd.Distiller', student=model, teacher=hook.teacher,
                         distill=hook.distill)
    if model['type'] != 'mmkd.Distiller':
        return
    if isinstance(model.get('unlabelled'), str):  # a Runner takes the pipeline from its own
        model.unlabelled = dict(dataloader=dict(dataset=dict(
            type='mmkd.ImageFolder', folder=model.unlabelled,
            pipeline=_pipeline(config.train_dataloader.dataset))))
    built = build(dict(model, classes=base.classes), base.scope)
    with DefaultScope.overwrite_default_scope(base.scope):
        built.prepare()
    if built.inherit is not None:
        built.inherit.pass_on(built.teacher.model, built.student)


def _pipeline(dataset: Any) -> List[Any]:
    while 'pipeline' not in dataset:
        dataset = dataset.get('dataset') or dataset.datasets[-1]
    return dataset.pipeline
