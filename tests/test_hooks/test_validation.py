"""An interrupted validation is repeated on resume, and the run ends like an uninterrupted one."""
import glob
import json
import os
import signal
from multiprocessing import get_context

import pytest
import torch
from conftest import (
    detector_config,
    distiller,
    retinanet,
    save_teacher,
    saved_at,
    segmentor,
    segmentor_config,
)
from mmengine.model import BaseModel
from mmengine.runner import Runner

import mmkd
from mmkd.files.latest import latest_whole
from mmkd.hooks.validation import VALIDATED, missed_validation

RESEED = dict(type='mmkd.ReseedHook')
EMA = dict(type='EMAHook', momentum=0.3)
METRIC = dict(detector='coco/bbox_mAP', segmentor='mIoU')
CHECKPOINT = {'default_hooks.checkpoint.type': 'mmkd.CheckpointHook',
              'default_hooks.checkpoint.max_keep_ckpts': 1}


def by_epochs(shapes, streets, folder, name, **changes):
    """A distilled detector with averaged weights, validated after epochs 2 and 4 in two batches."""
    teacher = save_teacher(folder / 'teacher.pth', retinanet(channels=24))
    model = dict(distiller(retinanet(), teacher), hooks=[RESEED, EMA])
    return detector_config(shapes, model, str(folder / name), **CHECKPOINT, **{
        'train_cfg.max_epochs': 4, 'train_cfg.val_interval': 2,
        'optim_wrapper.optimizer.lr': 0.02, 'optim_wrapper.optimizer.momentum': 0.9,
        'default_hooks.checkpoint.save_best': METRIC['detector'], **changes})


def by_iterations(shapes, streets, folder, name, **changes):
    """A plain segmentor, validated after iterations 3 and 5 in four batches."""
    return segmentor_config(streets, segmentor(), str(folder / name), **CHECKPOINT, **{
        'train_cfg.max_iters': 5, 'train_cfg.val_interval': 3, 'custom_hooks': [RESEED],
        'default_hooks.checkpoint.interval': 1,
        'default_hooks.checkpoint.save_best': METRIC['segmentor'], **changes})


def go_on(config, cut_off=0):
    """Continue as ``tools/train.py --resume`` does; kill it at validation step ``cut_off``."""
    steps = []

    def counted(val_step):
        def step(self, data):
            steps.append(1)
            if len(steps) == cut_off:
                os.kill(os.getpid(), signal.SIGKILL)
            return val_step(self, data)
        return step

    for kind in (mmkd.Distiller, BaseModel):
        kind.val_step = counted(kind.val_step)
    config.load_from = latest_whole(config.work_dir)
    config.resume = config.load_from is not None
    Runner.from_cfg(config).train()


def in_another_process(*args):
    process = get_context('fork').Process(target=go_on, args=args)
    process.start()
    process.join()
    return process.exitcode


def outcome(work_dir, metric):
    """Return the last and the best checkpoint, and the scores by epoch or iteration."""
    best, = glob.glob(os.path.join(work_dir, 'best_*.pth'))
    last = saved_at(latest_whole(work_dir))
    scores = {}
    for path in sorted(glob.glob(os.path.join(work_dir, '*', 'vis_data', 'scalars.json'))):
        with open(path) as file:
            lines = [json.loads(line) for line in file]
        scores.update({line['step']: line[metric] for line in lines if metric in line})
    known = last['message_hub']['runtime_info']
    weights = {'best': saved_at(best)['state_dict'], **{
        key: last[key] for key in ('state_dict', 'optimizer', 'ema_state_dict') if key in last}}
    return dict(best=os.path.basename(best), scores=scores, score=known['best_score'],
                kept=sorted(os.path.basename(path) for path in glob.glob(
                    os.path.join(work_dir, '*.pth')))), weights


def assert_equal(one, other, where=''):
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_equal(one[key], other[key], f'{where}/{key}')
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, (list, tuple)):
        assert_equal(dict(enumerate(one)), dict(enumerate(other)), where)
    else:
        assert one == other, where


# The run is killed during both validations. The second process first repeats the steps of the first
# validation.
@pytest.mark.slow
@pytest.mark.parametrize(('config_of', 'metric', 'cuts'), [
    (by_epochs, METRIC['detector'], [2, 2 + 2]),
    (by_iterations, METRIC['segmentor'], [1, 4 + 3])])
def test_run_killed_in_validation_ends_like_an_uninterrupted_one(
        shapes, streets, tmp_path, config_of, metric, cuts):
    whole = config_of(shapes, streets, tmp_path, 'whole')
    assert in_another_process(whole) == 0
    broken = config_of(shapes, streets, tmp_path, 'broken')
    for cut_off in cuts:
        assert in_another_process(broken, cut_off) == -signal.SIGKILL
    assert in_another_process(broken) == 0
    assert_equal(outcome(whole.work_dir, metric), outcome(broken.work_dir, metric))


def resumed(config, path, **state):
    """Return a Runner that is about to resume from a checkpoint."""
    runner = Runner.from_cfg(config)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    for name, value in state.items():
        setattr(runner.train_loop, name, value)
    return runner


@pytest.mark.parametrize(('state', 'validated', 'expected'), [
    (dict(_epoch=0), None, None),      # the start
    (dict(_epoch=3), None, None),      # none is due
    (dict(_epoch=4), None, 4),
    (dict(_epoch=4), 4, None),         # saved again after the validation
    (dict(_epoch=4), 2, 4),
    (dict(_epoch=4, val_begin=5), None, None),
    (dict(_epoch=7), None, 7),         # always validated at the end
    (dict(_epoch=6), 'x', 6),          # value in a damaged file
])
def test_which_validation_is_due(shapes, tmp_path, state, validated, expected):
    runner = resumed(detector_config(shapes, retinanet(), str(tmp_path / 'run'), **{
        'train_cfg.max_epochs': 7, 'train_cfg.val_interval': 2}), None, **state)
    if validated is not None:
        runner.message_hub.update_info(VALIDATED, validated)
    assert missed_validation(runner) == expected


@pytest.mark.slow
def test_changed_intervals_apply_to_their_own_time(streets, tmp_path):
    changes = {'train_cfg.max_iters': 100, 'train_cfg.val_interval': 10,
               'train_cfg.dynamic_intervals': [(50, 3)]}
    for number, expected in ((20, 20), (33, None), (54, 54), (60, 60), (50, None)):
        runner = resumed(segmentor_config(
            streets, segmentor(), str(tmp_path / str(number)), **changes), None, _iter=number)
        assert missed_validation(runner) == expected, number


def test_run_without_validation_repeats_none(shapes, tmp_path):
    runner = resumed(detector_config(
        shapes, retinanet(), str(tmp_path / 'run'), val_dataloader=None, val_cfg=None,
        val_evaluator=None), None, _epoch=1)
    assert missed_validation(runner) is None


@pytest.mark.parametrize(('save_best', 'expected'), [(METRIC['detector'], 0), (None, 2)])
def test_is_repeated_unless_the_checkpoint_has_it(
        shapes, tmp_path, monkeypatch, save_best, expected):
    """If the checkpoint was the best so far, it was saved again after the validation."""
    config = detector_config(shapes, retinanet(), str(tmp_path / 'run'), **CHECKPOINT, **{
        'default_hooks.checkpoint.save_best': save_best})
    Runner.from_cfg(config).train()
    steps = []
    val_step = BaseModel.val_step
    monkeypatch.setattr(BaseModel, 'val_step', lambda self, data: (
        steps.append(1), val_step(self, data))[1])
    config.resume = True
    config.experiment_name += '_again'
    runner = Runner.from_cfg(config)
    runner.train()
    assert len(steps) == expected
    assert runner.message_hub.get_info(VALIDATED) == 1
