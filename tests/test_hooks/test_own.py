"""`hooks` of the Distiller are registered once, in order, and only for training."""
import pytest
import torch
from conftest import (
    detector_config,
    distiller,
    retinanet,
    save_teacher,
    saved_at,
    train,
)
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import FlexibleRunner, Runner

CALLS = []


class Noting(Hook):
    """Records its calls in the order in which a Runner makes them."""

    def before_run(self, runner):
        CALLS.append((type(self).__name__, 'before_run'))

    def before_train(self, runner):
        runner.model.prepare()  # a second call registers nothing twice
        CALLS.append((type(self).__name__, 'before_train'))

    def after_val_epoch(self, runner, metrics=None):
        CALLS.append((type(self).__name__, 'after_val_epoch'))


@HOOKS.register_module(force=True)
class NotingFirst(Noting):
    priority = 'LOWEST'  # the entry has another priority


@HOOKS.register_module(force=True)
class NotingLast(Noting):
    priority = 'LOWEST'


ENTRIES = [dict(type='NotingLast'), dict(type='NotingFirst', priority='VERY_HIGH')]
EXPECTED = [(name, when) for when in ('before_run', 'before_train', 'after_val_epoch')
            for name in ('NotingFirst', 'NotingLast')]


def config_of(shapes, tmp_path, hooks=(), **changes):
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet())
    model = dict(distiller(retinanet(), teacher), hooks=list(hooks))
    return detector_config(shapes, model, str(tmp_path / 'run'), **changes)


@pytest.mark.parametrize('kind', [Runner, FlexibleRunner])
def test_run_in_training_like_hooks_of_the_config(shapes, tmp_path, kind):
    CALLS.clear()
    env_cfg = dict(dist_cfg=dict(backend='gloo'))
    runner = kind.from_cfg(config_of(shapes, tmp_path, ENTRIES, env_cfg=env_cfg))
    runner.train()
    assert CALLS == EXPECTED
    names = [type(hook).__name__ for hook in runner.hooks]
    assert names.count('NotingFirst') == names.count('NotingLast') == 1
    # after those of the config, and before mmkd's hooks that save the state
    assert names.index('NotingFirst') < names.index('StateHook') < names.index('NotingLast')


def test_do_not_run_in_a_test(shapes, tmp_path):
    CALLS.clear()
    runner = Runner.from_cfg(config_of(shapes, tmp_path, ENTRIES))
    assert 'coco/bbox_mAP' in runner.test()
    assert not CALLS
    assert not any(isinstance(hook, Noting) for hook in runner.hooks)


def test_average_is_that_of_the_same_hook_in_custom_hooks(shapes, tmp_path):
    ema = dict(type='EMAHook', momentum=0.3)
    train(config_of(shapes, tmp_path, [ema], **{'train_cfg.max_epochs': 2}))
    own = saved_at(tmp_path / 'run' / 'epoch_2.pth')
    config = config_of(shapes, tmp_path, custom_hooks=[ema], **{'train_cfg.max_epochs': 2})
    config.work_dir = str(tmp_path / 'other')
    train(config)
    other = saved_at(tmp_path / 'other' / 'epoch_2.pth')
    assert int(own['ema_state_dict']['steps']) == 4
    for key in ('state_dict', 'ema_state_dict'):
        for name, value in other[key].items():
            assert torch.equal(value, own[key][name]), name


def test_hook_that_is_built_already_is_taken_as_it_is(shapes, tmp_path):
    CALLS.clear()
    hook = NotingLast()
    runner = Runner.from_cfg(config_of(shapes, tmp_path))
    model = runner.model
    model._own_hooks = type(model._own_hooks)([hook])
    runner.train()
    assert any(one is hook for one in runner.hooks)
    expected = [one for one in EXPECTED if one[0] == 'NotingLast']
    assert expected == CALLS
