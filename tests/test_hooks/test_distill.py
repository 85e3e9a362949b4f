"""DistillHook computes the losses of the Distiller and leaves the model unchanged."""
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
from support.rows import slow_but

from mmkd import MODELS
from mmkd.losses import Bank, DistillLoss

DIST = dict(type='mmkd.DISTLoss', on='cls')


@HOOKS.register_module()
class KeepLosses(Hook):
    """Stores the losses of every iteration that the training loop receives."""

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


@pytest.mark.parametrize('pair', slow_but(['dense'], ((name, name) for name in PAIRS)))
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


@pytest.mark.slow
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


def test_model_is_unchanged_and_ema_copies_only_the_student(shapes, tmp_path):
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


class PastLoss(DistillLoss):
    """A loss with a bank and without parameters."""

    communicates = True

    def __init__(self, loss_weight=1.0):
        super().__init__(loss_weight)
        self.bank = Bank(3, 16)

    def compare(self, student, teacher):
        past, is_filled = self.bank.table()
        self.bank.push(teacher.mean((2, 3)))
        distance = torch.cdist(student.mean((2, 3)), past)
        return (student - teacher).square().mean() + (distance * is_filled).mean()


@pytest.mark.slow
def test_a_memory_is_saved_and_resumed_by_the_hook(shapes, tmp_path):
    MODELS.register_module(module=PastLoss, force=True)
    teacher = save_teacher(tmp_path / 't.pth', retinanet(width=12))
    entry = dict(type='mmkd.PastLoss', on='neck')

    def run(folder, epochs, **changes):
        return train(detector_config(shapes, retinanet(), str(tmp_path / folder), custom_hooks=[
            dict(type='mmkd.ReseedHook'),
            dict(type='mmkd.DistillHook', teacher=teacher, distill=[entry])], **{
                'train_cfg.max_epochs': epochs, 'train_cfg.val_interval': 9, **changes}))[1]

    whole = run('whole', 2)
    run('parts', 1)
    assert run('parts', 2, resume=True) == whole[2:]
    state = saved_at(tmp_path / 'parts' / 'epoch_2.pth')['mmkd']['losses']['loss_neck_past']
    assert int(state['0.bank.counts']) == 8 * 5  # all five levels use the same bank


def test_model_that_is_distilled_already_is_refused(shapes, tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', retinanet())
    config = detector_config(
        shapes, distiller(retinanet(), teacher), str(tmp_path / 'run'),
        custom_hooks=[dict(type='mmkd.DistillHook', teacher=teacher, distill=[DIST])])
    with pytest.raises(TypeError, match='is a mmkd.Distiller already'):
        Runner.from_cfg(config).train()
