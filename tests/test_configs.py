"""Every config of the repository builds or trains; the COCO recipes have the authors' settings."""
import copy
import glob
import os
from itertools import product

import pytest
import torch
from conftest import build, saved_at, train
from mmengine.config import Config
from mmengine.fileio import dump, load
from mmengine.registry import MODELS, DefaultScope
from support.rows import slow_but

from mmkd import Distiller, DISTLoss, KDLoss, MSELoss
from mmkd.files.classes import classes_of_config
from mmkd.files.zoo import config_path, published_checkpoint
from mmkd.points import points_of

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONFIGS = sorted(p for p in glob.glob(os.path.join(ROOT, 'configs', '**', '*.py'), recursive=True)
                 if '_base_' not in os.path.relpath(p, ROOT).split(os.sep))
CLASSIFIERS = [p for p in CONFIGS if p.endswith(('_in1k.py', '_cifar100.py')) or (
    os.path.basename(os.path.dirname(p)) == 'digit_images')]
CONFIGS = [p for p in CONFIGS if p not in CLASSIFIERS]
"""All but the configs of mmpretrain's classifiers; see test_configs_of_classifiers.py."""


def read(path):
    return Config.fromfile(os.path.join(ROOT, path))


RECIPES = sorted(p for folder in ('dist', 'kd', 'dist_mimic')
                 for p in glob.glob(os.path.join(ROOT, 'configs', folder, '*.py'))
                 if p in CONFIGS)
TEACHERS = {
    'retinanet_r50': 'retinanet_x101_64x4d_fpn_1x_coco_20200130-366f5af1.pth',
    'faster_rcnn_r50': 'cascade_mask_rcnn_x101_64x4d_fpn_20e_coco_20200512_161033-bdb5126a.pth',
    'deeplabv3_r18': 'deeplabv3_r101-d8_512x1024_80k_cityscapes_20200606_113503-9e428899.pth',
    'pspnet_r18': 'deeplabv3_r101-d8_512x1024_80k_cityscapes_20200606_113503-9e428899.pth',
}
LOSSES = {'dist': DISTLoss, 'kd': KDLoss, 'dist_mimic': DISTLoss}


def names_of(path):
    folder, name = os.path.split(os.path.relpath(path, os.path.join(ROOT, 'configs')))
    return folder, os.path.splitext(name)[0]


def built(path):
    config = Config.fromfile(path)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        return config, MODELS.build(copy.deepcopy(config.model))


def test_each_method_has_a_recipe_for_each_model():
    """Only detectors compare neck features ("mimic")."""
    assert {names_of(path) for path in RECIPES} == {
        (folder, name) for folder in LOSSES for name in TEACHERS
        if folder != 'dist_mimic' or name.endswith('rcnn_r50') or name.startswith('retinanet')}


@pytest.mark.parametrize('path', RECIPES, ids=['/'.join(names_of(p)) for p in RECIPES])
def test_recipe_compares_what_the_authors_compare(path):
    folder, name = names_of(path)
    config, model = built(path)
    assert isinstance(model, Distiller)
    first, *others = model.terms
    is_segmentor = config.default_scope == 'mmseg'
    assert type(first.loss) is LOSSES[folder]
    assert (first.loss.loss_weight, first.loss.tau) == (1., 1.)
    assert first.loss.use_sigmoid is (name == 'retinanet_r50')
    assert first.student_point.num_classes == dict(retinanet_r50=80, faster_rcnn_r50=81).get(
        name, 19)
    if is_segmentor:
        aux, = others
        assert type(aux.loss) is LOSSES[folder]
        assert (aux.spec.on_student, aux.loss.loss_weight, aux.spec.region) == ('aux', 0.4, None)
    elif folder == 'dist_mimic':
        mimic, = others
        assert (type(mimic.loss), mimic.loss.loss_weight) == (MSELoss, 1.)
        assert (mimic.spec.on_student, mimic.spec.connector) == ('neck', 'conv')
    else:
        assert not others
    assert first.spec.stage == (0 if name == 'faster_rcnn_r50' else None)
    assert published_checkpoint(config.model.teacher.config).endswith(TEACHERS[name])


@pytest.mark.parametrize(('name', 'lr', 'plain'), [
    ('retinanet_r50', 0.01, 'retinanet/retinanet_r50_fpn_2x_coco.py'),
    ('faster_rcnn_r50', 0.02, 'faster_rcnn/faster-rcnn_r50_fpn_2x_coco.py')])
def test_detector_is_trained_as_the_authors_train_it(name, lr, plain):
    config = read(f'configs/dist/{name}.py')
    assert config.optim_wrapper.optimizer == dict(
        type='SGD', lr=lr, momentum=0.9, weight_decay=1e-4)
    assert 'clip_grad' not in config.optim_wrapper
    warmup, steps = config.param_scheduler
    assert (warmup.type, warmup.start_factor, warmup.end) == ('LinearLR', 0.001, 500)
    assert (steps.milestones, steps.gamma) == ([16, 22], 0.1)
    assert config.train_cfg.max_epochs == 24
    assert config.train_dataloader.batch_size == 2
    plain = read(config_path(f'mmdet::{plain}')).model
    student = config.model.student.to_dict()
    student.pop('_scope_', None)
    assert student == plain.to_dict()


@pytest.mark.parametrize('name', ['deeplabv3_r18', 'pspnet_r18'])
def test_segmentor_is_trained_as_the_authors_train_it(name):
    config = read(f'configs/dist/{name}.py')
    assert config.optim_wrapper.optimizer == dict(
        type='SGD', lr=0.02, momentum=0.9, weight_decay=5e-4)
    assert not config.optim_wrapper.get('paramwise_cfg')
    poly, = config.param_scheduler
    assert (poly.type, poly.power, poly.eta_min, poly.end) == ('PolyLR', 0.9, 1e-4, 40000)
    assert (config.train_cfg.max_iters, config.train_cfg.val_interval) == (40000, 400)
    assert config.default_hooks.checkpoint.save_best == 'mIoU'
    assert config.train_dataloader.batch_size == 2
    steps = config.train_dataloader.dataset.pipeline
    assert [step.type for step in steps] == [
        'LoadImageFromFile', 'LoadAnnotations', 'RandomChoiceResize', 'RandomCrop', 'RandomFlip',
        'PackSegInputs']
    assert [width / 2048 for width, _ in steps[2].scales] == pytest.approx(
        [0.5 + k / 10 for k in range(16)], abs=1e-3)
    assert steps[3].crop_size == (512, 1024)
    student = config.model.student
    assert (student.decode_head.channels, student.auxiliary_head.channels) == (128, 64)
    assert student.decode_head.align_corners is student.auxiliary_head.align_corners is True
    assert student.auxiliary_head.loss_decode.loss_weight == 0.4


@pytest.mark.parametrize('path', slow_but(
    ('dist/retinanet_r50', 'dist/pspnet_r18'), (('/'.join(names_of(p)), p) for p in RECIPES)))
def test_recipe_trains_and_its_checkpoint_is_the_plain_students(path, coco, streets, tmp_path):
    """The models of the recipes, on small images. Weights that would be downloaded are random."""
    config = Config.fromfile(path)
    model = config.model
    model.teacher.checkpoint = None
    model.student.update(pretrained=None) if 'pretrained' in model.student else \
        model.student.backbone.update(init_cfg=None)
    teacher = Config.fromfile(config_path(model.teacher.config))
    teacher.model.update(pretrained=None) if 'pretrained' in teacher.model else \
        teacher.model.backbone.update(init_cfg=None)
    model.teacher.config = teacher.to_dict()
    data = config.train_dataloader.dataset
    steps = data.pipeline
    if config.default_scope == 'mmseg':
        data.data_root = streets
        steps[2].scales, steps[3].crop_size = [(80, 64)], (64, 64)
        model.student.data_preprocessor.size = (64, 64)
        config.train_cfg = dict(type='IterBasedTrainLoop', max_iters=2)
    else:
        data.update(data_root='', ann_file=f'{coco}/instances.json', data_prefix=dict(img=coco),
                    filter_cfg=None)
        steps[2].scale = (96, 64)
        config.train_cfg.max_epochs = 1
    for key in ('val_cfg', 'val_dataloader', 'val_evaluator'):
        config[key] = None
    config.default_hooks.checkpoint.pop('save_best', None)
    config.train_dataloader.update(num_workers=0, persistent_workers=False)
    config.work_dir = str(tmp_path / 'run')
    runner, losses = train(config)
    assert len(losses) == 2
    for match in runner.model.terms:
        assert all(0 < step[match.name] < float('inf') for step in losses)
    saved = torch.load(glob.glob(str(tmp_path / 'run' / '*.pth'))[0], weights_only=True)
    plain = build(model.student, config.default_scope)
    plain.load_state_dict(saved['state_dict'], strict=True)
    assert ('mmkd' in saved) is (names_of(path)[0] == 'dist_mimic')


@pytest.fixture(scope='session')
def coco(shapes, tmp_path_factory):
    """The `shapes` data set, with COCO's names for its classes."""
    folder = tmp_path_factory.mktemp('coco')
    for path in glob.glob(os.path.join(shapes, '*.png')):
        os.symlink(path, folder / os.path.basename(path))
    content = load(os.path.join(shapes, 'instances.json'))
    for category, name in zip(content['categories'], ('person', 'bicycle', 'car')):
        category['name'] = name
    dump(content, str(folder / 'instances.json'))
    return str(folder)


def test_model_index_names_every_recipe():
    named = [os.path.join(ROOT, model['Config'])
             for file in load(os.path.join(ROOT, 'model-index.yml'))['Import']
             for model in load(os.path.join(ROOT, file))['Models']]
    assert sorted(named) == RECIPES


SCHEMES = [p for p in CONFIGS if p.endswith(('_bccd.py', '_camvid.py'))]
FIRST_STAGES = [p for p in CONFIGS if p.endswith('_tokens.py')]


def tokens_of(config):
    """Return the entries that read a file of a first stage."""
    return [entry for entry in config.model.get('distill', []) if 'tokens' in entry]


def prepare_tokens(config, path, shapes, streets, folder):
    """Run the first stage of a scheme for two iterations, with the teacher of the second stage."""
    if not tokens_of(config):
        return
    first = on_small_data(Config.fromfile(path.replace('.py', '_tokens.py')), shapes, streets,
                          folder)
    first.model.teacher = config.model.teacher
    train(first)
    for entry in tokens_of(config):
        entry.tokens = str(folder / 'prepared.pth')


@pytest.mark.slow
def test_second_stages_take_the_file_of_their_first():
    assert FIRST_STAGES
    for path in FIRST_STAGES:
        first, second = Config.fromfile(path), Config.fromfile(path.replace('_tokens.py', '.py'))
        folder = first.get('work_dir') or f'work_dirs/{os.path.basename(path)[:-3]}'
        assert {entry.tokens for entry in tokens_of(second)} == {f'{folder}/prepared.pth'}
        assert [one.model.teacher.get('checkpoint') for one in (first, second)] == [
            second.model.teacher.get('checkpoint')] * 2
        assert os.path.normpath(first.model.teacher.config) == second.model.teacher.config
        kinds = {MODELS.get(entry.type).module.__name__ for entry in tokens_of(second)}
        assert kinds == {first.model.module.type.removeprefix('mmkd.')}
        heads = ('retinanet_r50', 'fcos_r50', 'reppoints_r50')
        assert not os.path.basename(path).startswith(heads) or (
            first.train_cfg.max_iters, first.optim_wrapper.optimizer) == (
                2000, dict(type='Adam', lr=0.01, weight_decay=0.001))


def on_small_data(config, shapes, streets, work_dir):
    """Change the config to two iterations on small images, with random weights for the teachers."""
    loader = config.train_dataloader
    loader.update(batch_size=2, num_workers=0, persistent_workers=False)
    if config.default_scope == 'mmdet':
        classes = ('disc', 'square', 'cross')
        loader.dataset.update(ann_file=os.path.join(shapes, 'instances.json'), data_root='',
                              data_prefix=dict(img=shapes), metainfo=dict(classes=classes))
        config.train_cfg.update(dict(max_epochs=1) if 'max_epochs' in config.train_cfg else
                                dict(max_iters=2))
    else:
        classes = load_classes()
        loader.dataset.update(data_root=streets, img_suffix='_leftImg8bit.png')
        config.train_cfg.max_iters = 2
    config.merge_from_dict(dict(work_dir=str(work_dir), val_dataloader=None, val_cfg=None,
                                val_evaluator=None, test_dataloader=None, test_cfg=None,
                                test_evaluator=None,
                                experiment_name=str(work_dir).replace(os.sep, '_')))
    config.default_hooks.checkpoint.interval = 2 if 'max_iters' in config.train_cfg else 1
    teacher = config.model.get('teacher') or {}
    if 'cache' in teacher:
        teacher.cache = str(work_dir) + '_cache'
    for number, one in enumerate(teacher.get('members') or [teacher]):
        if 'checkpoint' in one:
            path = str(work_dir) + f'_{number}.pth'
            with DefaultScope.overwrite_default_scope(config.default_scope):
                network = MODELS.build(Config.fromfile(one.config).model)
            torch.save(dict(meta=dict(dataset_meta=dict(classes=classes)),
                            state_dict=network.state_dict()), path)
            one.checkpoint = path
    return config


def load_classes():
    from mmseg.datasets import CityscapesDataset
    return CityscapesDataset.METAINFO['classes']


def test_every_scheme_has_a_detector_and_a_segmentor():
    """Only schemes with a page in docs/schemes need both; the method of one loss may have one."""
    pages = {os.path.splitext(os.path.basename(path))[0] for path in glob.glob(
        os.path.join(ROOT, 'docs', 'schemes', '*.md'))} - {'README'}
    data = {}
    for path in SCHEMES:
        folder, name = names_of(path)
        data.setdefault(folder, []).append(name.rpartition('_')[2])
    assert all(sorted(data.get(page, [])) == ['bccd', 'camvid'] for page in pages), data


def classes_in(config):
    with DefaultScope.overwrite_default_scope(config.default_scope):
        return classes_of_config(config)


REST = [path for path in CONFIGS if path not in {*RECIPES, *SCHEMES, *FIRST_STAGES}]


@pytest.mark.parametrize('path', [
    pytest.param(p, id=os.path.relpath(p, ROOT), marks=[pytest.mark.slow] * ('few_labels' in p))
    for p in REST])
def test_model_predicts_the_classes_of_its_data(path):
    """Configs that no other test trains. The teacher must have the same classes."""
    config, model = built(path)
    classes = classes_in(config)
    assert classes
    student = model.student if isinstance(model, Distiller) else model
    assert points_of(student)['cls'].num_named == len(classes)
    if isinstance(model, Distiller):
        labels = [one for one in config.model.distill if one.type == 'mmkd.PseudoLabels']
        assert len(model.terms) + len(labels) >= len(config.model.distill) > 0
        assert all(match.spec.on_student for match in model.terms)
        teacher = Config.fromfile(config_path(config.model.teacher.config))
        taught = classes_in(teacher)
        mapping = config.model.teacher.get('classes', {})
        assert [one for name in classes for one in mapping.get(name, [name])] == taught
        with DefaultScope.overwrite_default_scope(teacher.default_scope):
            assert points_of(MODELS.build(teacher.model))['cls'].num_named == len(taught)


@pytest.mark.parametrize('path', slow_but(
    ('byot/retinanet_r18_bccd', 'ps_kd/pspnet_r18_camvid'),
    (('/'.join(names_of(p)), p) for p in SCHEMES)))
def test_scheme_trains_and_its_checkpoint_is_the_plain_students(path, shapes, streets, tmp_path):
    config = on_small_data(Config.fromfile(path), shapes, streets, tmp_path / 'run')
    prepare_tokens(config, path, shapes, streets, tmp_path / 'first')
    runner, losses = train(config)
    assert len(losses) == 2
    terms = [match.name for match in runner.model.terms]
    assert terms
    for one, name in product(losses, terms):  # a term may be logged in several parts
        values = [value for key, value in one.items() if key.startswith(name)]
        assert values
        assert all(torch.tensor(value).isfinite() for value in values)
    data = dict(mmdet='bccd', mmseg='camvid')[config.default_scope]
    plain = read(f'configs/{data}/student.py').model
    if names_of(path)[1].startswith(('faster_rcnn', 'gfl')):
        plain = config.model.student
    saved, = glob.glob(str(tmp_path / 'run' / '*_[12].pth'))
    build(plain.to_dict(), config.default_scope).load_state_dict(
        saved_at(saved)['state_dict'], strict=True)
