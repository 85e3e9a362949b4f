"""The hook gives the Distiller's numbers and leaves no trace."""
import copy

import pytest
import torch
from conftest import (
    build,
    detector_config,
    distiller,
    retinanet,
    save_teacher,
    saved_at,
    segmentor,
    segmentor_config,
    two_stage,
)
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

DIST = dict(type='mmkd.DISTLoss', on='cls')


@HOOKS.register_module()
class KeepLosses(Hook):
    """Every iteration's losses, as the training loop got them."""

    def __init__(self):
        self.losses = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append({name: value.item() for name, value in outputs.items()})


def train(config):
    config = copy.deepcopy(config)
    config.custom_hooks = [*config.get('custom_hooks', []), dict(type='KeepLosses')]
    runner = Runner.from_cfg(config)
    runner.train()
    return runner, next(h for h in runner.hooks if isinstance(h, KeepLosses)).losses


PAIRS = {
    'dense': (retinanet, lambda: retinanet(width=12), DIST),
    'two-stage': (two_stage, lambda: two_stage('cascade-rcnn', width=12), DIST),
    'kd': (retinanet, lambda: retinanet(width=12), dict(type='mmkd.KDLoss', on='cls')),
}


@pytest.mark.parametrize('pair', PAIRS)
def test_hook_and_distiller_give_identical_losses(shapes, tmp_path, pair):
    student, teacher, entry = PAIRS[pair]
    teacher = save_teacher(tmp_path / 't.pth', teacher())
    changes = {'train_cfg.max_epochs': 3}
    model, losses = train(detector_config(
        shapes, distiller(student(), teacher, entry), str(tmp_path / 'model'), **changes))
    hook, others = train(detector_config(
        shapes, student(), str(tmp_path / 'hook'),
        custom_hooks=[dict(type='mmkd.DistillHook', teacher=teacher, distill=[entry])], **changes))
    assert len(losses) == 6
    assert losses == others
    assert any(name.startswith('loss_cls_') for name in losses[0])
    weights = hook.model.state_dict()
    assert all(torch.equal(value, weights[name])
               for name, value in model.model.state_dict().items())


def test_segmentor_of_any_project(streets, tmp_path):
    from mmseg.datasets import CityscapesDataset
    teacher = save_teacher(tmp_path / 't.pth', segmentor('deeplabv3', 50),
                           CityscapesDataset.METAINFO['classes'], scope='mmseg')
    entries = [DIST, dict(DIST, on='aux', loss_weight=0.4)]
    changes = {'train_cfg.max_iters': 5}
    _, losses = train(segmentor_config(
        streets, distiller(segmentor(), teacher, *entries), str(tmp_path / 'model'), **changes))
    _, others = train(segmentor_config(
        streets, segmentor(), str(tmp_path / 'hook'),
        custom_hooks=[dict(type='mmkd.DistillHook', teacher=teacher, distill=entries)], **changes))
    assert len(losses) == 5
    assert losses == others


def test_leaves_the_model_as_it_was_and_ema_copies_it_bare(shapes, tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', retinanet())
    runner, _ = train(detector_config(
        shapes, retinanet(), str(tmp_path / 'run'), custom_hooks=[
            dict(type='mmkd.DistillHook', teacher=teacher, distill=[DIST]),
            dict(type='EMAHook')]))
    assert 'forward' not in runner.model.__dict__
    ema = next(h for h in runner.hooks if type(h).__name__ == 'EMAHook').ema_model
    assert 'forward' not in ema.module.__dict__
    saved = saved_at(str(tmp_path / 'run' / 'epoch_1.pth'))
    assert 'mmkd' not in saved
    build(retinanet()).load_state_dict(saved['state_dict'], strict=True)


def test_a_test_needs_no_teacher(shapes, tmp_path):
    gone = dict(config='no/such/config.py', checkpoint='no/such/file.pth')
    config = detector_config(
        shapes, retinanet(), str(tmp_path / 'run'),
        custom_hooks=[dict(type='mmkd.DistillHook', teacher=gone, distill=[DIST])])
    assert 'coco/bbox_mAP' in Runner.from_cfg(config).test()
    with pytest.raises(FileNotFoundError, match='no/such/config.py'):
        Runner.from_cfg(copy.deepcopy(config)).train()


@pytest.mark.parametrize(('entry', 'error', 'message'), [
    (dict(type='mmkd.MSELoss', on='neck'), ValueError,
     'loss_neck_mse needs connectors.*use the model `mmkd.Distiller`'),
    (dict(type='mmkd.DISTLoss', on='csl'), ValueError, 'no point `csl` in the student'),
    (dict(type='mmkd.DISTLos', on='cls'), ValueError, 'no type `mmkd.DISTLos`'),
])
def test_mistakes_are_named_before_the_first_batch(shapes, tmp_path, entry, error, message):
    teacher = save_teacher(tmp_path / 't.pth', retinanet(channels=24))
    config = detector_config(
        shapes, retinanet(), str(tmp_path / 'run'),
        custom_hooks=[dict(type='mmkd.DistillHook', teacher=teacher, distill=[entry])])
    with pytest.raises(error, match=message):
        Runner.from_cfg(config).train()


def test_model_that_is_distilled_already_is_refused(shapes, tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', retinanet())
    config = detector_config(
        shapes, distiller(retinanet(), teacher), str(tmp_path / 'run'),
        custom_hooks=[dict(type='mmkd.DistillHook', teacher=teacher, distill=[DIST])])
    with pytest.raises(TypeError, match='is a mmkd.Distiller already'):
        Runner.from_cfg(config).train()
