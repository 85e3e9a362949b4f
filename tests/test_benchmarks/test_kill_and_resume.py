"""A run that is killed several times ends with the weights of an uninterrupted run."""
import os
import random
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
from mmengine.fileio import LocalBackend
from mmengine.runner import Runner

from mmkd.files.latest import latest_whole

KD = dict(type='mmkd.KDLoss', on='cls')
RUNS = {
    'frozen': lambda teacher: distiller(retinanet(), teacher),
    'moving average': lambda teacher: distiller(
        retinanet(), dict(type='mmkd.MeanTeacher', momentum=0.2, warmup=1), KD),
    'previous epoch': lambda teacher: distiller(
        retinanet(), dict(type='mmkd.EarlierSelf', every=1), dict(KD, alpha=0.8)),
    'mutual': lambda teacher: dict(
        type='mmkd.Distiller', student=retinanet(), companions=dict(other=dict(config=dict(
            model=retinanet(width=12)))), distill=[dict(KD, between=['student', 'other'])]),
    'connector': lambda teacher: distiller(
        retinanet(), teacher, dict(type='mmkd.MSELoss', on='neck')),
}
EXACT = dict(custom_hooks=[dict(type='mmkd.ReseedHook')])


def detector_run(shapes, tmp_path, kind, work_dir, **changes):
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet(channels=24))
    config = detector_config(shapes, RUNS[kind](teacher), work_dir, **{
        'train_cfg.max_epochs': 4, 'train_cfg.val_interval': 2,
        'default_hooks.checkpoint.type': 'mmkd.CheckpointHook',
        'default_hooks.checkpoint.max_keep_ckpts': 1,
        'optim_wrapper.optimizer.momentum': 0.9, **EXACT, **changes})
    config.param_scheduler = [dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=5)]
    return config


def segmentor_run(streets, tmp_path, work_dir, **changes):
    """A run by iterations, with dropout, crops and flips."""
    teacher = save_teacher(tmp_path / 'teacher.pth', segmentor(width=12), classes=(),
                           scope='mmseg')
    return segmentor_config(streets, distiller(segmentor(), teacher, KD), work_dir, **{
        'train_cfg.max_iters': 6, 'train_cfg.val_interval': 4,
        'default_hooks.checkpoint.type': 'mmkd.CheckpointHook', **EXACT, **changes})


def go_on(config):
    """Continue a run as ``tools/train.py --resume`` does."""
    config.load_from = latest_whole(config.work_dir)
    config.resume = config.load_from is not None
    Runner.from_cfg(config).train()


def go_on_until_half_a_checkpoint_is_written(config, number):
    """Kill the process halfway through the checkpoint that follows the first ``number`` ones."""
    put, saves = LocalBackend.put, []

    def cut(self, content, path):
        saves.append(path)
        if len(saves) <= number:
            return put(self, content, path)
        put(self, content[:len(content) // 2], path)
        os.kill(os.getpid(), signal.SIGKILL)

    LocalBackend.put = cut
    go_on(config)


def in_another_process(function, *args, kill_after=None):
    """Run a function in a process that is killed after some seconds; return its exit code."""
    process = get_context('fork').Process(target=function, args=args)
    process.start()
    process.join(kill_after)
    if process.is_alive():
        process.kill()
        process.join()
    return process.exitcode


def final(work_dir):
    saved = saved_at(latest_whole(work_dir))
    return {'student': saved['state_dict'], 'optimizer': saved['optimizer']['state'],
            'beside': saved.get('mmkd')}


def assert_same(one, other, where=''):
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f'{where}/{key}')
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where


@pytest.mark.slow
@pytest.mark.parametrize('kind', RUNS)
def test_killed_run_ends_like_an_uninterrupted_run(shapes, tmp_path, kind):
    whole, broken = str(tmp_path / 'whole'), str(tmp_path / 'broken')
    assert in_another_process(go_on, detector_run(shapes, tmp_path, kind, whole)) == 0
    moments, kills = random.Random(kind), 0
    config = detector_run(shapes, tmp_path, kind, broken)
    for number in (0, 1):  # while the first checkpoint is written, and while the second one is
        code = in_another_process(go_on_until_half_a_checkpoint_is_written, config, number)
        assert code == -signal.SIGKILL
        assert (latest_whole(broken) is None) == (number == 0)
    code = None
    while code != 0:
        code = in_another_process(go_on, config, kill_after=moments.uniform(0.3, 1 + kills))
        assert code in (0, -signal.SIGKILL)  # it ends by itself or is killed, but never fails
        kills += 1
        assert kills < 100
    assert_same(final(whole), final(broken))


@pytest.mark.slow
def test_by_iterations_with_dropout_and_crops(streets, tmp_path):
    whole, broken = str(tmp_path / 'whole'), str(tmp_path / 'broken')
    assert in_another_process(go_on, segmentor_run(streets, tmp_path, whole)) == 0
    config = segmentor_run(streets, tmp_path, broken)
    for number in (1, 1):
        assert in_another_process(
            go_on_until_half_a_checkpoint_is_written, config, number) == -signal.SIGKILL
    assert in_another_process(go_on, config) == 0
    resumed = [log.read_text() for log in (tmp_path / 'broken').rglob('*.log')]
    assert any('resumed epoch: 0, iter: 4' in text for text in resumed)
    assert_same(final(whole), final(broken))
