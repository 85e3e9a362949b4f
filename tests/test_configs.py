"""Every config of the repository builds; the COCO recipes say what the authors' said."""
import copy
import glob
import os

import pytest
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.registry import MODELS, DefaultScope

from mmkd import Distiller, DISTLoss, KDLoss
from mmkd.zoo import config_path, published_checkpoint

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONFIGS = sorted(p for p in glob.glob(os.path.join(ROOT, 'configs', '*', '*.py')))


def read(path):
    return Config.fromfile(os.path.join(ROOT, path))


@pytest.mark.parametrize('path', CONFIGS, ids=[os.path.relpath(p, ROOT) for p in CONFIGS])
def test_builds(path):
    config = Config.fromfile(path)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        MODELS.build(copy.deepcopy(config.model))


@pytest.mark.parametrize(('path', 'loss'), [
    ('configs/dist/retinanet_r50.py', DISTLoss), ('configs/kd/retinanet_r50.py', KDLoss)])
def test_coco_recipe_is_the_authors(path, loss):
    config = read(path)
    assert config.optim_wrapper.optimizer == dict(
        type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4)
    assert 'clip_grad' not in config.optim_wrapper
    warmup, steps = config.param_scheduler
    assert (warmup.type, warmup.start_factor, warmup.end) == ('LinearLR', 0.001, 500)
    assert (steps.milestones, steps.gamma) == ([16, 22], 0.1)
    assert config.train_cfg.max_epochs == 24
    assert config.train_dataloader.batch_size == 2
    plain = read(config_path('mmdet::retinanet/retinanet_r50_fpn_2x_coco.py')).model
    student = config.model.student.to_dict()
    student.pop('_scope_', None)
    assert student == plain.to_dict()
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(copy.deepcopy(config.model))
    assert isinstance(model, Distiller)
    match, = model.matches
    assert type(match.loss) is loss
    assert (match.loss.loss_weight, match.loss.tau, match.loss.use_sigmoid) == (1., 1., True)
    assert match.student_point.num_classes == 80
    assert published_checkpoint(config.model.teacher.config).endswith(
        'retinanet_x101_64x4d_fpn_1x_coco_20200130-366f5af1.pth')


def test_model_index_names_configs_that_exist():
    for file in load(os.path.join(ROOT, 'model-index.yml'))['Import']:
        for model in load(os.path.join(ROOT, file))['Models']:
            assert os.path.isfile(os.path.join(ROOT, model['Config']))
