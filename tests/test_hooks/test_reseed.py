"""A resumed run draws the same random numbers as an uninterrupted one."""
import random

import numpy as np
import pytest
import torch
from conftest import (
    detector_config,
    distiller,
    retinanet,
    save_teacher,
    segmentor,
    segmentor_config,
)
from conftest import train as train_and_leave
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmkd.core.rng import seed_from
from mmkd.hooks.reseed import StartWorker

HOOK = dict(custom_hooks=[dict(type='mmkd.ReseedHook')])


def detector_run(shapes, tmp_path, name, **changes):
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet())
    return detector_config(shapes, distiller(retinanet(), teacher), str(tmp_path / name), **{
        'train_cfg.max_epochs': 3, **changes})


def segmentor_run(streets, tmp_path, name, **changes):
    teacher = save_teacher(tmp_path / 'teacher.pth', segmentor(), classes=(), scope='mmseg')
    return segmentor_config(streets, distiller(segmentor(), teacher), str(tmp_path / name), **{
        'train_cfg.max_iters': 6, 'train_cfg.val_interval': 3, **changes})


def train(config):
    """Stop the workers of the data loader; the garbage collector would take seconds."""
    runner, losses = train_and_leave(config)
    runner.train_dataloader._iterator = None
    getattr(runner.train_loop, 'dataloader_iterator', runner).batches = None
    return runner, losses


def workers(number):
    return {'train_dataloader.num_workers': number,
            'train_dataloader.persistent_workers': number > 0}



@pytest.mark.slow
@pytest.mark.parametrize('number', [0, 2])
def test_epochs_are_repeated_exactly(shapes, tmp_path, number):
    _, whole = train(detector_run(shapes, tmp_path, 'whole', **HOOK, **workers(number)))
    again = detector_run(shapes, tmp_path, 'again', resume=True,
                         load_from=str(tmp_path / 'whole' / 'epoch_1.pth'),
                         **HOOK, **workers(number))
    _, rest = train(again)
    assert rest == whole[-4:]


@pytest.mark.parametrize('number', [0, 1])
def test_iterations_are_repeated_exactly(streets, tmp_path, number):
    _, whole = train(segmentor_run(streets, tmp_path, 'whole', **HOOK, **workers(number)))
    again = segmentor_run(streets, tmp_path, 'again', resume=True,
                          load_from=str(tmp_path / 'whole' / 'iter_2.pth'),
                          **HOOK, **workers(number))
    _, rest = train(again)
    assert rest == whole[2:]


def test_without_the_hook_a_resume_differs_and_is_logged(streets, tmp_path):
    _, whole = train(segmentor_run(streets, tmp_path, 'whole'))
    _, rest = train(segmentor_run(streets, tmp_path, 'again', resume=True,
                                  load_from=str(tmp_path / 'whole' / 'iter_2.pth')))
    assert rest != whole[2:]
    log, = (tmp_path / 'again').rglob('*.log')
    assert 'random numbers (augmentation, samples, dropout) restart' in log.read_text()


def test_in_the_middle_of_an_epoch_it_warns(shapes, tmp_path):
    saving = {'default_hooks.checkpoint': dict(
        type='CheckpointHook', by_epoch=False, interval=1), 'train_cfg.max_epochs': 1}
    train(detector_run(shapes, tmp_path, 'whole', **HOOK, **saving))
    train(detector_run(shapes, tmp_path, 'again', resume=True,
                       load_from=str(tmp_path / 'whole' / 'iter_1.pth'), **HOOK, **saving))
    log, = (tmp_path / 'again').rglob('*.log')
    assert 'saved in the middle of an epoch' in log.read_text()


def test_a_run_without_a_seed_is_refused(shapes, tmp_path):
    config = detector_run(shapes, tmp_path, 'run', **HOOK, randomness=dict(seed=None))
    with pytest.raises(ValueError, match=r'no.*write `randomness = dict\(seed=0\)`'):
        Runner.from_cfg(config).train()


class Numbers(torch.utils.data.Dataset):
    """The numbers that a worker draws for each of 4 items."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return random.random(), np.random.rand(), torch.rand(()).item()


def test_workers_and_epochs_draw_different_numbers():
    called = []
    drawn = {}
    for epoch in (0, 1):
        loader = DataLoader(Numbers(), num_workers=2, collate_fn=lambda batch: batch[0],
                            worker_init_fn=StartWorker(None, 7, epoch))
        drawn[epoch] = list(loader)
    items = [item for epoch in (0, 1) for item in drawn[epoch]]
    assert len(set(items)) == 8
    StartWorker(called.append, 7, 1)(1)
    assert called == [1]
    assert drawn[1][1] == Numbers()[0]  # the second item is the first one of the second worker


def test_every_seed_gives_other_numbers():
    found = set()
    for numbers in [(0, 1), (1, 0), (0, 2), (0, 1, 0)]:
        seed_from(*numbers)
        found.add(Numbers()[0])
    assert len(found) == 4
