"""Which configs has each method? Does every recipe for COCO and Cityscapes teach its student?"""
import functools
import glob
import os

import pytest
import torch
from conftest import build
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from support.rows import slow_but

from mmkd.losses import METHODS

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LAPTOP = ('data/bccd/', 'data/camvid_cityscapes/')
FOLDERS = ('bccd', 'bccd_deformable_detr', 'camvid')
"""Folders of data, which have configs of methods, too."""
WITHOUT_RECIPE = {'cka'}
"""Methods whose authors have none; docs/recipes.md says why."""


OF_CLASSIFIERS = '_in1k.py', '_cifar100.py'
"""Endings of recipes of classifiers. They can be read with mmpretrain alone."""


@functools.cache
def read(folder):
    return {os.path.relpath(path, ROOT): Config.fromfile(path) for path in sorted(
        glob.glob(os.path.join(ROOT, 'configs', folder, '*.py')))
        if not path.endswith(OF_CLASSIFIERS)}


def types_of(entries):
    """Types of entries, with the options that make a method of its own."""
    return {(entry['type'], bool(entry.get('standardize'))) for entry in entries}


def entries_of(method):
    """The entries of a method, whatever the family."""
    for family in ('dense', 'roi', 'segmentor', 'classifier', 'query'):
        try:
            yield types_of(method.entries(family))
        except (KeyError, ValueError):
            continue


@pytest.mark.slow
@pytest.mark.parametrize('name', sorted(METHODS))
def test_a_method_has_a_recipe_and_a_config_for_a_laptop(name):
    wanted = list(entries_of(METHODS[name]))
    assert wanted
    own = name.replace('_fcos', '')
    found = {path: config for folder in {own, *FOLDERS} for path, config in read(folder).items()
             if config.get('model', {}).get('type') == 'mmkd.Distiller' and (
                 folder == own or any(types_of(config.model.distill) == one for one in wanted))}
    small = [path for path, config in found.items()
             if config.train_dataloader.dataset.get('data_root') in LAPTOP]
    assert small
    recipes = set(found) - set(small) | {
        path for ending in OF_CLASSIFIERS
        for path in glob.glob(os.path.join(ROOT, 'configs', name, f'*{ending}'))}
    assert bool(recipes) is (name not in WITHOUT_RECIPE)


def is_recipe(path):
    text = os.path.basename(path)
    folder = os.path.basename(os.path.dirname(path))
    return not (text.endswith(('_bccd.py', '_camvid.py', '_tokens.py', *OF_CLASSIFIERS))
                or folder in NO_RECIPES or folder.startswith(('bccd', 'camvid', 'digit'))
                or text.endswith(('_r101.py', 'teacher.py')))


NO_RECIPES = ('_base_', 'soft_tree', 'soft_tree_rcnn', 'dist', 'kd', 'dist_mimic')
"""Folders without recipes, and those whose recipes test_configs.py trains."""
ONE_OF_EACH_PAIR = ('pgd/fcos_r50', 'reviewkd/faster_rcnn_r50', 'pkd/reppoints_r50',
                    'cwd/pspnet_r18', 'kt/deeplabv3_r18', 'detrdistill/deformable_detr_r50')
"""Building the models of a recipe takes a quarter of a minute: CI steps these, and all with
MMKD_ALL_RECIPES=1 in the environment."""
RECIPES = [os.path.relpath(path, os.path.join(ROOT, 'configs'))[:-3] for path in sorted(
    glob.glob(os.path.join(ROOT, 'configs', '*', '*.py'))) if is_recipe(path)]
if not os.environ.get('MMKD_ALL_RECIPES'):
    RECIPES = [name for name in ONE_OF_EACH_PAIR if name in RECIPES]
    assert len(RECIPES) == len(ONE_OF_EACH_PAIR)


def segmentation_batch(model):
    """Two crops of 96x96 with bands of classes, two of which an image does not have."""
    samples = []
    for number in (0, 1):
        bands = (torch.arange(96) // 6 + number).expand(96, 96).clone()
        bands[:8] = 255
        sample = SegDataSample(metainfo=dict(img_shape=(96, 96), ori_shape=(96, 96)))
        samples.append(sample.set_data(dict(gt_sem_seg=PixelData(data=bands[None]))) or sample)
    images = [torch.randint(0, 256, (3, 96, 96), dtype=torch.uint8) for _ in samples]
    model.data_preprocessor.size = (96, 96)  # not padded to the recipe's crops
    return model.data_preprocessor(dict(inputs=images, data_samples=samples), True)


def batch(config, model):
    if config.default_scope == 'mmseg':
        return segmentation_batch(model)
    raw = demo_mm_inputs(2, [[3, 128, 128], [3, 96, 128]], num_classes=80, num_items=[2, 3],
                         with_mask='mask' in config.model.teacher.config)
    return model.data_preprocessor(raw, True)


def prepare_tokens(config, path, folder):
    """Write the file of the first stage, whose modules were not trained."""
    for entry in config.model.distill:
        if 'tokens' in entry:
            first = Config.fromfile(path.replace('.py', '_tokens.py'))
            first.model.teacher = config.model.teacher
            module = build(first.model.to_dict(), config.default_scope)
            entry.tokens = module.write(str(folder), 1)


@pytest.mark.parametrize('name', slow_but((), ((name, name) for name in RECIPES)))
def test_a_recipe_teaches_its_student(name, tmp_path):
    """Losses are finite, and each term has a gradient in the student; random weights."""
    torch.manual_seed(0)
    path = os.path.join(ROOT, 'configs', f'{name}.py')
    config = Config.fromfile(path)
    config.model.teacher.checkpoint = None
    prepare_tokens(config, path, tmp_path)
    model = revert_sync_batchnorm(build(config.model.to_dict(), config.default_scope)).train()
    for module in model.student.modules():
        if 'Pretrained' in str(getattr(module, 'init_cfg', None)):
            module.init_cfg = None  # its file would be downloaded
    model.init_weights()
    losses = model(**batch(config, model), mode='loss')
    values = {key: sum(value) if isinstance(value, list) else value
              for key, value in losses.items()}
    assert all(value.isfinite() for value in values.values()), values
    assert not [term.name for term in model.terms
                if not any(key.startswith(term.name) for key in values)]
    parameters = [one for one in model.student.parameters() if one.requires_grad]
    for term in model.terms:
        value = sum(value for key, value in values.items() if key.startswith(term.name))
        gradients = [one for one in torch.autograd.grad(
            value, parameters, retain_graph=True, allow_unused=True) if one is not None]
        assert all(one.isfinite().all() for one in gradients), term.name
        assert sum(one.abs().sum() for one in gradients) > 0, term.name


@pytest.mark.parametrize(('name', 'classes', 'boxes'), [
    ('gfl', dict(topk=30, alpha=0.04, beta=0.02), dict(topk=30, gamma=0.064)),
    ('atss', dict(topk=9, alpha=0.08, beta=0.04), dict(topk=9, gamma=0.128)),
    ('fcos', dict(topk=30, alpha=0.04, beta=0.02), dict(topk=30, gamma=0.064))])
def test_pgd_is_trained_as_the_authors_train_it(name, classes, boxes):
    config, teacher = (
        Config.fromfile(os.path.join(ROOT, 'configs', 'pgd', f'{name}_{depth}.py'))
        for depth in ('r50', 'r101'))
    assert config.optim_wrapper.clip_grad == dict(max_norm=35, norm_type=2)
    assert teacher.optim_wrapper.clip_grad is None
    for one, epochs, milestones in ((config, 12, [8, 11]), (teacher, 36, [24, 33])):
        assert one.optim_wrapper.optimizer == dict(
            type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4)
        assert (one.train_cfg.max_epochs, one.param_scheduler[1].milestones) == (
            epochs, milestones)
        assert one.train_dataloader.batch_size == 4
    assert config.model.inherit == 'neck,head'
    for entry, values in zip(config.model.distill, (classes, boxes)):
        assert {key: entry[key] for key in values} == values
        assert (entry.tau, entry.delta) == (0.8, 0.0008)
    assert [entry.xi for entry in config.model.distill] == [0.8, 0.6]
    assert not config.model.student.backbone.norm_cfg.requires_grad
