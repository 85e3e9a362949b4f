"""Processes that would train differently all stop with an error that names the difference."""
import os
import re

import pytest
import torch
from conftest import detector_config, distiller, leave_group, retinanet, save_teacher
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import distributed, multiprocessing

from mmkd.core.agreement import differences

KD = dict(type='mmkd.KDLoss', on='cls')


def test_differences_of_nested_values_name_their_path():
    one = dict(a=1, b=[1, dict(c='x')], d=dict(e=None), f=[1])
    assert list(differences(one, dict(one))) == []
    other = dict(a=1, b=[1, dict(c='y')], d=dict(e=None, g=2), f=[1, 2])
    assert list(differences(one, other)) == [
        ('b[1].c', "'x'", "'y'"), ('d.g', 'None', '2'), ('the length of f', '1', '2')]


class Nudge(Hook):
    """Changes a weight in one of the processes."""
    priority = 'HIGHEST'

    def before_train(self, runner):
        if distributed.get_rank() == 1:
            with torch.no_grad():
                next(runner.model.parameters()).add_(1)


def another_file(config, folder):
    config.model.teacher.checkpoint = str(folder / 'other' / 'teacher.pth')


def one_entry_fewer(config, folder):
    del config.model.distill[1]


def no_file(config, folder):
    config.model.teacher.checkpoint = str(folder / 'nowhere' / 'teacher.pth')


def another_rate(config, folder):
    config.optim_wrapper.optimizer.lr = 0.5


CASES = {
    'another file': (another_file, r'`networks.teacher.checkpoint_hash` is .* in process 0 and '
                     r'.* in process 1'),
    'one entry fewer': (one_entry_fewer, '`the length of model.distill` is 2 in process 0 and 1'),
    'no file': (no_file, 'nowhere/teacher.pth'),
    'another rate': (another_rate,
                     '`optim_wrapper.optimizer.lr` is 0.001 in process 0 and 0.5 in process 1'),
    'other weights': (None, '`weights` is .* in process 0 and .* in process 1'),
    'alike': (None, ''),
}


def work(rank, folder, shapes):
    distributed.init_process_group('gloo', rank=rank, world_size=2,
                                   init_method=f'file://{folder}/meeting')
    for case in CASES:
        torch.save(outcome(rank, folder, shapes, case), folder / f'{case}-{rank}')
        distributed.barrier()
    leave_group()


def outcome(rank, folder, shapes, case):
    """Train; return the error message of the process, or '' if there was none."""
    teacher = dict(config=dict(default_scope='mmdet', model=retinanet(width=12)),
                   checkpoint=str(folder / 'teacher.pth'))
    config = detector_config(
        shapes, distiller(retinanet(), teacher, KD, dict(type='mmkd.DISTLoss', on='cls')),
        str(folder / case), **{'default_hooks.checkpoint.type': 'mmkd.CheckpointHook',
                               'train_cfg.val_interval': 9})
    change, _ = CASES[case]
    if rank == 1 and change:
        change(config, folder)
    config.model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None,
                                    broadcast_buffers=False)
    config.launcher = 'none'
    try:
        runner = Runner.from_cfg(config)
        runner._distributed = True
        if case == 'other weights':
            runner.register_hook(Nudge())
        runner.train()
    except Exception as error:
        return f'{type(error).__name__}: {error}'
    return ''


@pytest.fixture(scope='module')
def processes(shapes, tmp_path_factory):
    """Run all cases in two processes; return the folder with their error messages."""
    folder = tmp_path_factory.mktemp('processes')
    save_teacher(folder / 'teacher.pth', retinanet(width=12))
    os.makedirs(folder / 'other')
    save_teacher(folder / 'other' / 'teacher.pth', retinanet(width=12), seed=5)
    context = multiprocessing.spawn(work, (folder, shapes), nprocs=2, join=False)
    for _ in range(90):
        if context.join(2):
            return folder
    for process in context.processes:
        process.kill()
    return folder  # tests of the cases that did not run fail: they find no messages


@pytest.mark.slow
@pytest.mark.parametrize('case', CASES)
def test_all_processes_stop_with_a_reason(processes, case):
    said = [torch.load(processes / f'{case}-{rank}') for rank in (0, 1)]
    _, message = CASES[case]
    for rank, text in enumerate(said):
        assert bool(text) == bool(message), said
        assert re.search(message, text), said
        if case == 'no file':
            assert ('process 1 of 2 could not prepare its teacher, so all processes '
                    'stop' in text) == (
                rank == 0)
        elif message:
            assert text.startswith('ValueError: the processes of this run start with different '
                                   'settings')
            assert 'start all processes with the same config and the same files' in text
    assert (processes / case / 'epoch_1.pth').exists() == (not message)
