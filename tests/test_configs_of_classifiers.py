"""Every classifier config runs a training step; the recipes have the authors' settings."""
import glob
import math
import os

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from support.classifiers import needs_mmpretrain
from support.rows import slow_but

needs_mmpretrain()

from conftest import build  # noqa: E402
from mmpretrain.structures import DataSample  # noqa: E402

from mmkd import Distiller, DISTLoss, KDLoss  # noqa: E402
from mmkd.files.zoo import config_path, published_checkpoint  # noqa: E402
from mmkd.hooks.schedule import Schedule  # noqa: E402

CONFIGS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'configs')
PATHS = {os.path.relpath(path, CONFIGS)[:-3]: path for name in (
    '*_in1k.py', '*_cifar100.py', os.path.join('..', 'digit_images', '*.py'))
    for path in glob.glob(os.path.join(CONFIGS, '[!_]*', name))}
PATHS = {os.path.normpath(name): path for name, path in PATHS.items()}
QUICK = ('digit_images/kd', 'digit_images/tree')
SIZES = dict(in1k=64, cifar100=32)


def model_of(name):
    """Return the config, and its model with random weights. Swin needs its own image size."""
    config = Config.fromfile(PATHS[name])
    model = config.model
    if 'data_preprocessor' not in model:
        model.data_preprocessor = config.data_preprocessor
    if 'config' in model.get('teacher', {}):
        model.teacher.checkpoint = None
    return config, build(model.to_dict(), 'mmpretrain')


@pytest.mark.parametrize('name', slow_but(QUICK, ((name, name) for name in sorted(PATHS))))
def test_config_takes_a_step(name):
    config, model = model_of(name)
    model.train()
    side = 224 if 'swin' in name else SIZES.get(name.rpartition('_')[2], 16)
    classes = config.data_preprocessor.num_classes
    samples = [DataSample(metainfo=dict(img_shape=(side, side), num_classes=classes)
                          ).set_gt_label(label) for label in (1, 5)]
    images = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)
    losses = model(**model.data_preprocessor(dict(inputs=images, data_samples=samples), True),
                   mode='loss')
    values = [float(one) for value in losses.values()
              for one in (value if isinstance(value, list) else [value])]
    assert all(map(math.isfinite, values))
    if isinstance(model, Distiller):
        for term in model.terms:  # of several parts, each is logged as NAME_PART
            assert any(one == term.name or one.startswith(f'{term.name}_') for one in losses)


@pytest.mark.parametrize(('name', 'teacher'), [
    ('resnet18_in1k', 'resnet34_8xb32_in1k_20210831-f257d4e6.pth'),
    ('mobilenet_v2_in1k', 'resnet50_8xb256-rsb-a1-600e_in1k_20211228-20e21305.pth'),
    ('swin_tiny_in1k', 'swin_large_patch4_window7_224_22kto1k-5f0996db.pth')])
def test_imagenet_recipes_are_those_of_the_authors_of_dist(name, teacher):
    of_labels = 0.9 if name == 'resnet18_in1k' else 1.
    for folder, kind, weights, tau in (
            ('dist', DISTLoss, (2., 1.), 1.), ('kd', KDLoss, (1., of_labels), 4.)):
        config = Config.fromfile(PATHS[f'{folder}/{name}'])
        entry, = config.model.distill
        alpha = entry.get('alpha')
        loss = kind(**{key: value for key, value in entry.items()
                       if key not in ('type', 'on', 'alpha')})
        assert (entry.type, entry.on, loss.tau) == (f'mmkd.{kind.__name__}', 'cls', tau)
        assert (loss.loss_weight * (alpha or 1), 1 - (alpha or 0)) == weights
        assert published_checkpoint(config.model.teacher.config).endswith(teacher)


def optimizer_of(config):
    return {key: value for key, value in config.optim_wrapper.optimizer.items()
            if key != '_scope_'}


def test_resnet18_is_trained_as_the_authors_train_it():
    config = Config.fromfile(PATHS['dist/resnet18_in1k'])
    assert optimizer_of(config) == dict(
        type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=True)
    assert (config.param_scheduler.milestones, config.param_scheduler.gamma) == ([30, 60, 90], 0.1)
    assert (config.train_cfg.max_epochs, config.train_dataloader.batch_size) == (100, 32)
    plain = Config.fromfile(config_path('mmpretrain::resnet/resnet18_8xb32_in1k.py')).model
    student = config.model.student.to_dict()
    student.pop('_scope_', None)
    assert student == plain.to_dict()


@pytest.mark.parametrize(('name', 'decay'), [
    ('dist/resnet18_in1k', 1e-4), ('kd/resnet18_in1k', 1e-4), ('dist/mobilenet_v2_in1k', 1e-5)])
def test_biases_and_norms_have_no_weight_decay(name, decay):
    """lib/utils/optim.py of the authors: none for parameters with one axis."""
    config, model = model_of(name)
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    decays = {id(parameter): group['weight_decay'] for group in wrapper.param_groups
              for parameter in group['params']}
    trained = list(model.student.parameters())
    assert [decays[id(one)] for one in trained] == [decay * (one.ndim > 1) for one in trained]


def test_the_rates_of_strategy_b2():
    """By hand: 1e-6, thirds of the way to 0.048, 0.048; then times 0.97 in 2.4 epochs."""
    config = Config.fromfile(PATHS['dist/mobilenet_v2_in1k'])
    weight = torch.nn.Parameter(torch.zeros(1))
    wrapper = build_optim_wrapper(torch.nn.ParameterList([weight]), dict(
        optimizer=dict(type='SGD', lr=config.optim_wrapper.optimizer.lr)))
    schedulers = [PARAM_SCHEDULERS.build(one.to_dict(), default_args=dict(optimizer=wrapper))
                  for one in config.param_scheduler]
    rates = []
    for _ in range(28):
        rates += wrapper.get_lr()['lr']
        weight.grad = torch.zeros(1)
        wrapper.step()
        for scheduler in schedulers:
            scheduler.step()
    assert rates[:4] == pytest.approx([1e-6, 1e-6 + 0.047999 / 3, 1e-6 + 0.047999 * 2 / 3, 0.048])
    assert rates[3 + 24] == pytest.approx(0.048 * 0.97**10)
    assert config.train_dataloader.batch_size * 8 == 768
    ema, = config.custom_hooks
    assert (ema.type, ema.momentum) == ('EMAHook', 1e-4)


def test_ps_kd_is_trained_as_the_authors_train_it():
    config = Config.fromfile(PATHS['ps_kd/resnet18_cifar100'])
    assert optimizer_of(config) == dict(
        type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    assert (config.param_scheduler.milestones, config.param_scheduler.gamma) == ([150, 225], 0.1)
    assert (config.train_cfg.max_epochs, config.train_dataloader.batch_size) == (300, 128)
    hook, = config.model.hooks
    assert hook.schedules.loss_cls_kd.start_factor == 1 / config.train_cfg.max_epochs
    assert config.model.distill[0].alpha == 0.8


@pytest.mark.parametrize(('name', 'values', 'training'), [
    ('nkd/resnet18_in1k', dict(type='mmkd.NKDLoss', gamma=1.5, tau=1.0), (0.1, 32, 100)),
    ('dkd/resnet18_in1k', dict(type='mmkd.DKDLoss', alpha=1.0, beta=0.5, tau=1.0), (0.2, 64, 100)),
    ('lskd/resnet18_in1k', dict(type='mmkd.KDLoss', tau=2.0, standardize=True, loss_weight=9.0,
                                name='loss_cls_lskd'), (0.2, 64, 100)),
    ('kd/resnet18_cifar100', dict(type='mmkd.KDLoss', tau=4.0, alpha=0.9), (0.05, 64, 240)),
    ('dkd/resnet18_cifar100', dict(type='mmkd.DKDLoss', alpha=1.0, beta=8.0, tau=4.0),
     (0.05, 64, 240)),
    ('lskd/resnet18_cifar100', dict(type='mmkd.KDLoss', tau=2.0, standardize=True, alpha=0.9,
                                    loss_weight=10.0, name='loss_cls_lskd'), (0.05, 64, 240)),
    ('rkd/resnet18_cifar100', dict(type='mmkd.RKDLoss', distance=25., angle=50.), (0.05, 64, 240)),
    ('sp/resnet18_cifar100', dict(type='mmkd.SPLoss', levels=[-1], grid=None, loss_weight=3000.),
     (0.05, 64, 240))])
def test_recipe_has_the_settings_of_its_authors(name, values, training):
    """GPUs x images are 8 x 32 and 8 x 64 on ImageNet, 1 x 64 on CIFAR-100."""
    config = Config.fromfile(PATHS[name])
    entry, = config.model.distill
    assert {key: value for key, value in entry.items() if key != 'on'} == values
    optimizer = optimizer_of(config)
    assert not optimizer.pop('nesterov', False)
    assert optimizer == dict(type='SGD', lr=training[0], momentum=0.9,
                             weight_decay=5e-4 if 'cifar' in name else 1e-4)
    assert (config.train_dataloader.batch_size, config.train_cfg.max_epochs) == training[1:]
    assert config.param_scheduler.milestones == (
        [150, 180, 210] if 'cifar' in name else [30, 60, 90])


def test_dkd_is_warmed_up_on_cifar():
    """The authors' factor is epoch / 20, counted from 1."""
    hook, = Config.fromfile(PATHS['dkd/resnet18_cifar100']).model.hooks
    schedule = Schedule(**hook.schedules.loss_cls_dkd)
    assert [schedule.factor(epoch, 240) for epoch in (0, 9, 19, 100)] == [0.05, 0.5, 1., 1.]
