"""The extensions in examples/ are trained, killed, resumed and exported."""
import ast
import importlib
import os
import sys

import pytest
import torch
from conftest import (
    CLASSES,
    build,
    detector_config,
    distiller,
    retinanet,
    save_teacher,
)
from mmengine.config import Config
from support.extensions import train_kill_resume

import mmkd
import mmkd.losses

EXAMPLES = os.path.join(os.path.dirname(__file__), '..', '..', 'examples')
FILES = sorted(name for name in os.listdir(EXAMPLES) if name.endswith('.py'))


@pytest.fixture(autouse=True)
def beside_the_examples(monkeypatch):
    """Put examples/ on PYTHONPATH, as a user does with the folder of a project."""
    monkeypatch.syspath_prepend(EXAMPLES)
    for name in ('label_loss', 'memory_loss', 'connectors', 'confident_region',
                 'epoch_mean_teacher', 'blob_detector', 'blob_family'):
        if name not in sys.modules:
            importlib.import_module(name)


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    """A teacher with a wider neck than the student's."""
    return save_teacher(tmp_path_factory.mktemp('teacher') / 't.pth', retinanet(channels=24))


def maker(shapes, teacher, *entries, student=None, **changes):
    def make(folder, **more):
        model = dict(distiller(student or retinanet(), teacher, *entries),
                     hooks=[dict(type='mmkd.ReseedHook')])
        return detector_config(shapes, model, str(folder), **{
            'train_cfg.max_epochs': 3, 'train_cfg.val_interval': 9,
            'optim_wrapper.optimizer.momentum': 0.9, **changes, **more})

    return make


def go(shapes, tmp_path, teacher, *entries, student=None, **changes):
    student = student or retinanet()
    make = maker(shapes, teacher, *entries, student=student, **changes)
    return train_kill_resume(make, student, tmp_path)


def config_of(name):
    """Return the model of a config of mmdet."""
    from mmkd.files.zoo import read_config_file
    return read_config_file(name, 'teacher').model


# --- imports ------------------------------------------------------------------------------------

PUBLIC = {'mmkd': set(mmkd.__all__), 'mmkd.losses': set(mmkd.losses.__all__)}


@pytest.mark.parametrize('file', FILES)
def test_examples_import_only_public_names(file):
    with open(os.path.join(EXAMPLES, file)) as source:
        tree = ast.parse(source.read())
    for node in ast.walk(tree):
        names = [(one.name, None) for one in node.names] if isinstance(node, ast.Import) else (
            [(node.module, one.name) for one in node.names]
            if isinstance(node, ast.ImportFrom) else [])
        for module, name in names:
            if module.split('.')[0] == 'mmkd':
                assert module in PUBLIC, f'{file} imports {module}'
                assert name in PUBLIC[module], f'{file} imports {name} of {module}'


@pytest.mark.parametrize('file', FILES)
def test_examples_are_short(file):
    with open(os.path.join(EXAMPLES, file)) as source:
        assert 15 <= len(source.readlines()) <= 60


# --- each is trained, killed, resumed and exported ----------------------------------------------


def test_loss_that_asks_for_labels_and_boxes(shapes, tmp_path, teacher):
    losses, _ = go(shapes, tmp_path, teacher, dict(type='mmkd.TwoPartKDLoss', on='cls'))
    for part in ('object', 'background'):
        values = [one[f'loss_cls_twopartkd_{part}'] for one in losses]
        assert all(value > 0 for value in values)
        assert len(set(values)) == len(values)


def test_parts_are_those_of_the_labels(shapes, tmp_path, teacher):
    """Compare with a computation from mmdet's own targets, without mmkd."""
    from mmengine.runner import Runner
    make = maker(shapes, teacher, dict(type='mmkd.TwoPartKDLoss', on='cls'))
    runner = Runner.from_cfg(make(tmp_path / 'run'))
    model = runner.model
    model.init_weights()
    batch = model.data_preprocessor(next(iter(runner.build_dataloader(
        runner._train_dataloader, seed=0))), True)
    inputs, samples = batch['inputs'], batch['data_samples']
    given, head = [], model.student.bbox_head
    forward = head.loss_cls.forward
    head.loss_cls.forward = lambda pred, target, weight, **kwargs: (
        given.append((target, weight)), forward(pred, target, weight, **kwargs))[1]
    losses = model(inputs, samples, mode='loss')
    head.loss_cls.forward = forward
    with torch.no_grad():
        own = head(model.student.extract_feat(inputs))[0]
        other = model.teacher.model.bbox_head(model.teacher.model.extract_feat(inputs))[0]
    for level, (s, t) in enumerate(zip(own, other)):
        rows = [one.permute(0, 2, 3, 1).reshape(-1, len(CLASSES)) for one in (s, t)]
        target, weight = (one.flatten() for one in given[level])
        p, q = rows[1].sigmoid(), rows[0].sigmoid()
        each = -(p * q.log() + (1 - p) * (1 - q).log()).mean(1)
        boxes = torch.tensor([len(one.gt_instances) for one in samples]).float()
        each = each / boxes.repeat_interleave(len(each) // len(samples))
        is_object = (target < len(CLASSES)) & (weight > 0)
        expected = each[is_object].sum() / max(int(is_object.sum()), 1)
        torch.testing.assert_close(losses['loss_cls_twopartkd_object'][level].detach(), expected,
                                   rtol=1e-4, atol=1e-6)
        is_background = (target == len(CLASSES)) & (weight > 0)
        torch.testing.assert_close(
            losses['loss_cls_twopartkd_background'][level].detach(),
            0.25 * (each * is_background).mean(), rtol=1e-4, atol=1e-6)


def test_loss_with_layers_and_a_bank(shapes, tmp_path, teacher):
    losses, saved = go(shapes, tmp_path, teacher, dict(type='mmkd.PastImagesLoss', on='neck'))
    state = saved['mmkd']['losses']['loss_neck_pastimages']
    assert state['0.project.weight'].shape == (24, 16)
    assert [state[f'{level}.bank.memory'].shape[0] - 1 for level in range(5)] == [64, 32, 16, 8, 4]
    # the images of all epochs, without the blank image of the dry run
    assert int(state['0.bank.counts']) == 3 * 4
    assert not any('project' in name or 'bank' in name for name in saved['state_dict'])
    assert all(one['loss_neck_pastimages'] > 0 for one in losses)


@pytest.mark.parametrize(('connector', 'layer'), [
    (dict(type='mmkd.TwoLayers', hidden=12), '0.layers.0.weight'),
    (dict(type='mmkd.Masked'), '0.recover.weight')])
def test_connector(shapes, tmp_path, teacher, connector, layer):
    losses, saved = go(shapes, tmp_path, teacher,
                       dict(type='mmkd.MSELoss', on='neck', connector=connector))
    state = saved['mmkd']['connectors']['loss_neck_mse']
    assert layer in state
    assert all(one['loss_neck_mse'] > 0 for one in losses)


def test_connector_is_trained(shapes, tmp_path, teacher):
    make = maker(shapes, teacher, dict(type='mmkd.MSELoss', on='neck',
                                       connector=dict(type='mmkd.Masked', ratio=0.)))
    from conftest import train
    runner, _ = train(make(tmp_path / 'run'))
    connectors = runner.model.terms[0].connectors
    momentum = runner.optim_wrapper.optimizer.state
    assert all(momentum[p]['momentum_buffer'].abs().sum() > 0 for p in connectors.parameters())


def test_region(shapes, tmp_path, teacher):
    entry = dict(type='mmkd.KDLoss', on='cls', region=dict(type='mmkd.Confident'))
    losses, _ = go(shapes, tmp_path, teacher, entry, dict(
        type='mmkd.KDLoss', on='cls', name='loss_whole'), dict(
            entry, name='loss_alike', region=dict(type='mmkd.Confident', power=0.)))
    for one in losses:
        assert one['loss_alike'] == pytest.approx(one['loss_whole'], rel=1e-5)
        assert one['loss_cls_kd'] != pytest.approx(one['loss_whole'], rel=1e-3)


def test_value_passed_through_the_teacher(shapes, tmp_path):
    """The config of the example, at another layer because the towers of the tests are shallower."""
    config = Config.fromfile(os.path.join(EXAMPLES, 'cross_head.py'))
    student, other = build(config.model.student), build(config_of(config.model.teacher.config))
    entry, = config.model.distill
    for side, model in (('student', student), ('teacher', other)):
        assert model.get_submodule(entry.through[side]) is not None
    tower = 'bbox_head.cls_convs.0'
    entry = dict(entry.to_dict(), through=dict(student=tower, teacher=tower))
    teacher = save_teacher(tmp_path / 't.pth', retinanet(width=12))
    losses, _ = go(shapes, tmp_path, teacher, entry)
    assert all(one['loss_cls_kd'] > 0 for one in losses)


def test_scheme_with_its_own_state(shapes, tmp_path):
    losses, saved = go(shapes, tmp_path, dict(type='mmkd.AverageOfEpochs'),
                       dict(type='mmkd.KDLoss', on='cls'))
    assert [one['loss_cls_kd'] > 0 for one in losses] == [False, False, True, True, True, True]
    assert int(saved['mmkd']['networks']['teacher']['epochs']) == 3


def test_family_of_a_third_party(shapes, tmp_path):
    """Images are uint8 with three channels, packed by mmdet's data preprocessor."""
    processor = dict(type='mmdet.DetDataPreprocessor', mean=[100.] * 3, std=[50.] * 3)
    student, other = (dict(type='BlobDetector', width=width, data_preprocessor=processor)
                      for width in (4, 8))
    entry = save_teacher(tmp_path / 't.pth', other)
    losses, saved = go(shapes, tmp_path, entry, dict(type='mmkd.KDLoss', on='heat'),
                       dict(type='mmkd.MSELoss', on='backbone'), student=student,
                       **{'train_cfg.val_interval': 1})
    assert all(one['loss_heat_kd'] > 0 and one['loss_backbone_mse'] > 0 for one in losses)
    assert list(saved['state_dict']) == list(build(student).state_dict())
