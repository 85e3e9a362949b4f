"""GradientShareHook logs shares over a run, and changes nothing of it."""
import json
import os
import warnings

import pytest
import torch
from conftest import (
    detector_config,
    distiller,
    leave_group,
    retinanet,
    save_teacher,
    saved_at,
    segmentor,
    segmentor_config,
    train,
)
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from support.extensions import same_to_the_bit, train_kill_resume
from torch import distributed, multiprocessing

from mmkd.reports.run import as_page
from mmkd.reports.runs import read_run
from mmkd.training import share_meter
from mmkd.training.shares import norms_of

RESEED = dict(type='mmkd.ReseedHook')
HOOK = dict(type='mmkd.GradientShareHook', interval=2)
KD = dict(type='mmkd.KDLoss', on='cls')
NECK = dict(type='mmkd.MSELoss', on='neck')


@HOOKS.register_module(force=True)
class DrawLast(Hook):
    """Keeps random numbers that are drawn after training."""

    drawn = None

    def after_train(self, runner):
        DrawLast.drawn = torch.rand(4).tolist()


def detecting(shapes, teacher, work_dir, *entries, hooks=(), model=(), **changes):
    """Four epochs of two iterations, with momentum, EMA, a connector and accumulated gradients."""
    made = dict(distiller(retinanet(), teacher, *(entries or (KD, NECK))),
                hooks=[RESEED, dict(type='EMAHook'), *hooks], **dict(model))
    return detector_config(shapes, made, str(work_dir), **{
        'train_cfg.max_epochs': 4, 'train_cfg.val_interval': 9, 'optim_wrapper.optimizer.momentum':
        0.9, 'optim_wrapper.accumulative_counts': 2, 'custom_hooks': [dict(type='DrawLast')],
        **changes})


def same_with_the_hook(make, folder, file='epoch_4.pth'):
    """Train with the hook and without it; compare all but the shares; return the run with it."""
    found = []
    for name, hooks in dict(without=[], hook=[HOOK]).items():
        _, losses = train(make(folder / name, hooks=hooks))
        saved = saved_at(folder / name / file)
        found.append([losses, DrawLast.drawn, *(saved.get(key, {}) for key in (
            'state_dict', 'ema_state_dict', 'mmkd', 'optimizer'))])
    for one, other in zip(*found):
        same_to_the_bit(one, other)
    assert found[0][2]
    assert read_run(str(folder / 'without')).shares == []
    return read_run(str(folder / 'hook'))


def steps_of(run, name):
    return [step for step, _ in run.series(f'gradient_share/{name}')]


@pytest.mark.slow
def test_a_detector_trains_the_same(shapes, tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', retinanet(channels=24))
    run = same_with_the_hook(lambda folder, hooks: detecting(
        shapes, teacher, folder, hooks=hooks), tmp_path)
    for name in ('loss_cls_kd', 'loss_neck_mse'):
        assert steps_of(run, name) == [1, 2, 4, 6, 8]
        values = [value for _, value in run.series(f'gradient_share/{name}')]
        assert len({*values}) == 5
        assert min(values) > 0
    log, = (tmp_path / 'hook').rglob('*.log')
    assert log.read_text().count('gradient_share: loss_cls_kd: ') == 5
    text = as_page([run])
    assert 'share of gradients' in text
    assert '>loss_neck_mse<' in text


@pytest.mark.slow
def test_a_segmentor_with_a_memory_bank_and_dropout_trains_the_same_in_bfloat16(streets, tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', segmentor(width=12), classes=(), scope='mmseg')
    entries = dict(type='mmkd.CIRKDLoss', on='features', pixels=64, regions=16), KD

    def make(folder, hooks):
        model = dict(distiller(segmentor(), teacher, *entries), hooks=[RESEED, *hooks])
        return segmentor_config(streets, model, str(folder), **{
            'train_cfg.max_iters': 4, 'train_cfg.val_interval': 9,
            'optim_wrapper.type': 'mmkd.BFloat16OptimWrapper',
            'custom_hooks': [dict(type='DrawLast')]})

    run = same_with_the_hook(make, tmp_path, 'iter_4.pth')
    for name in ('loss_features_cirkd', 'loss_cls_kd'):
        assert steps_of(run, name) == [1, 2, 4]


@pytest.mark.slow
def test_a_cached_teacher_and_unlabelled_images_train_the_same(shapes, tmp_path):
    """Terms on unlabelled images have no share."""
    teacher = dict(save_teacher(tmp_path / 't.pth', retinanet(width=12)), type='mmkd.CachedTeacher',
                   cache=str(tmp_path / 'cache'), stored_as='float32')
    run = same_with_the_hook(lambda folder, hooks: detecting(
        shapes, teacher, folder, KD, hooks=hooks), tmp_path)
    assert steps_of(run, 'loss_cls_kd') == [1, 2, 4, 6, 8]
    del teacher['type'], teacher['cache'], teacher['stored_as']
    entries = dict(KD, images='all'), dict(NECK, images='unlabelled')
    run = same_with_the_hook(lambda folder, hooks: detecting(
        shapes, teacher, folder, *entries, hooks=hooks, model=dict(unlabelled=shapes)),
        tmp_path / 'stream')
    assert run.shares == ['gradient_share/loss_cls_kd']
    log, = (tmp_path / 'stream' / 'hook').rglob('*.log')
    assert 'GradientShareHook leaves out unlabelled.loss_neck_mse: only terms' in log.read_text()


@pytest.mark.slow
def test_a_resumed_run_logs_the_same_shares(shapes, tmp_path):
    """Killed after the third of eight iterations; also with a measured weight and a schedule."""
    teacher = save_teacher(tmp_path / 't.pth', retinanet(channels=24))
    entries = KD, dict(NECK, loss_weight=dict(share=0.3, iters=3)), dict(NECK, name='loss_late')
    schedule = dict(type='mmkd.DistillScheduleHook', schedules=dict(
        loss_late=dict(type='stop', at=2)))

    def make(folder, custom_hooks=(), **changes):
        return detecting(shapes, teacher, folder, *entries, hooks=[HOOK, schedule], **{
            'custom_hooks': list(custom_hooks), 'optim_wrapper.accumulative_counts': 1, **changes})

    train_kill_resume(make, retinanet(), tmp_path)
    whole, parts = (read_run(str(tmp_path / name)) for name in ('whole', 'parts'))
    assert sorted(whole.shares) == sorted(parts.shares)
    for name in whole.shares:
        assert whole.series(name) == parts.series(name)
    assert steps_of(whole, 'loss_neck_mse') == [1, 2, 3, 4, 6, 8]
    late = dict(whole.series('gradient_share/loss_late'))
    assert [step for step, value in late.items() if value == 0] == [6, 8]


def in_two_processes(rank, folder, shapes, teacher):
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    os.environ['LOCAL_RANK'] = str(rank)
    distributed.init_process_group('gloo', rank=rank, world_size=2,
                                   init_method=f'file://{folder}/meeting')
    found, norms = {}, []

    def noting(*args):
        norms.append(norms_of(*args)[:2])
        return norms[-1]

    share_meter.norms_of = noting
    for name, hooks in dict(without=[], hook=[HOOK]).items():
        config = detecting(shapes, teacher, f'{folder}/{name}', hooks=hooks, **{
            'train_cfg.max_epochs': 2, 'launcher': 'pytorch', 'train_dataloader.batch_size': 1,
            'model_wrapper_cfg': dict(type='MMDistributedDataParallel', device_ids=None)})
        runner = Runner.from_cfg(config)
        runner.train()
        found[name] = runner.model.module.state_dict()
    del runner
    found['norms'] = norms
    own = [torch.ones(1, requires_grad=flag).sum() for flag in (True, rank == 0, False)]
    found['having'] = share_meter.having(own)
    torch.save(found, f'{folder}/{rank}.pth')
    leave_group()


@pytest.mark.slow
def test_two_processes_train_the_same(shapes, tmp_path):
    """Their share is the quotient of the sums of the norms, those of the task first."""
    teacher = save_teacher(tmp_path / 't.pth', retinanet(channels=24))
    multiprocessing.spawn(in_two_processes, (str(tmp_path), shapes, teacher), nprocs=2)
    found = [torch.load(tmp_path / f'{rank}.pth') for rank in range(2)]
    for one in found:
        same_to_the_bit(one['without'], one['hook'])
        assert one['having'] == [(True, True), (True, False), (False, False)]
    task, own = sum(one['norms'][0] for one in found).tolist()
    run = read_run(str(tmp_path / 'hook'))
    assert steps_of(run, 'loss_cls_kd') == [1, 2, 4]
    assert run.series('gradient_share/loss_cls_kd')[0][1] == pytest.approx(own / task)


@pytest.mark.slow
def test_backends_get_losses_scores_and_shares(shapes, tmp_path):
    """TensorBoard's file of events has the tags of scalars.json, and pictures of the validation."""
    events = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    teacher = save_teacher(tmp_path / 't.pth', retinanet())
    backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
    train(detecting(shapes, teacher, tmp_path / 'run', hooks=[HOOK], **{
        'train_cfg.max_epochs': 1, 'train_cfg.val_interval': 1,
        'visualizer.vis_backends': backends,
        'default_hooks.visualization': dict(type='DetVisualizationHook', draw=True, interval=1)}))
    file, = (tmp_path / 'run').rglob('events.out.*')
    read = events.EventAccumulator(str(file))
    read.Reload()
    log, = (tmp_path / 'run').rglob('scalars.json')
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for name in ('loss', 'loss_cls', 'loss_cls_kd', 'gradient_share/loss_cls_kd',
                 'gradient_share/loss_neck_mse', 'coco/bbox_mAP'):
        expected = [(line['step'], pytest.approx(line[name])) for line in lines if name in line]
        assert expected
        assert [(one.step, one.value) for one in read.Scalars(name)] == expected, name
    assert len(read.Tags()['images']) > 0


@pytest.mark.parametrize(('change', 'message'), [
    (dict(model=retinanet()), 'finds no terms: .*; remove the hook from the config'),
    ({'model.distill': [dict(NECK, images='unlabelled')]},
     'finds no term that the student learns from labelled images; .*are unlabelled.loss_neck_mse; '
     'remove'),
])
def test_runs_without_a_term_to_measure_are_refused(shapes, tmp_path, change, message):
    teacher = save_teacher(tmp_path / 't.pth', retinanet())
    config = detecting(shapes, teacher, tmp_path / 'run', model=dict(unlabelled=shapes),
                       **{'custom_hooks': [HOOK]})
    config.merge_from_dict({key: one for key, one in change.items() if key != 'model'})
    config.model = change.get('model', config.model)
    with pytest.raises(ValueError, match=message):
        Runner.from_cfg(config).train()
