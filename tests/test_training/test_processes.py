"""Two processes compared with one process that has the whole batch."""
import os
import warnings
from types import SimpleNamespace

import pytest
import torch
from conftest import build, detector_config, distiller, leave_group, retinanet, save_teacher
from loops import (
    detector,
    half_empty,
    images,
    layered,
    mutual,
    save_teachers,
    segmenting,
    streets_of,
    three_steps,
    two_stages,
)
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel
from mmengine.runner import FlexibleRunner, Runner
from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from mmkd import DISTLoss

torch_version = tuple(map(int, torch.__version__.split('.')[:2]))

LOSSES = dict(softmax=DISTLoss(0.5, 2., tau=2., sync=True, use_sigmoid=False, loss_weight=3.),
              sigmoid=DISTLoss(sync=True, use_sigmoid=True))


def batch():
    """Return images, outputs of a teacher, and weights, which are 0 for the last two images."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(5, 3, 6, 7, generator=generator)
    teacher = torch.randn(5, 4, 6, 7, generator=generator)
    weight = torch.rand(5, 6, 7, generator=generator)
    weight[3:] = 0
    return images, teacher, weight


def student():
    torch.manual_seed(1)
    return nn.Conv2d(3, 4, 1)


def values_and_gradients(model, parts, is_weighted):
    images, teacher, weight = batch()
    found = []
    for loss in LOSSES.values():
        model.zero_grad()
        value = loss(model(images[parts]), teacher[parts], weight[parts] if is_weighted else None)
        value.backward()
        found += [value.detach(), *(p.grad.clone() for p in model.parameters())]
    return found


def work(rank, folder):
    """The first process has 3 images, the second has 2, which may have weights of 0."""
    distributed.init_process_group('gloo', rank=rank, world_size=2,
                                   init_method=f'file://{folder}/meeting')
    model = DistributedDataParallel(student())
    parts = slice(0, 3) if rank == 0 else slice(3, 5)
    found = {flag: values_and_gradients(model, parts, flag) for flag in (False, True)}
    torch.save(found, os.path.join(folder, f'{rank}.pth'))
    del model
    leave_group()


@pytest.mark.slow
def test_synchronised_dist_is_that_of_the_whole_batch(tmp_path):
    multiprocessing.spawn(work, (str(tmp_path), ), nprocs=2)
    for rank in range(2):
        found = torch.load(tmp_path / f'{rank}.pth')
        for flag in (False, True):
            expected = values_and_gradients(student(), slice(0, 5), flag)
            assert [one.shape for one in found[flag]] == [one.shape for one in expected]
            for one, other in zip(found[flag], expected):
                torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_sync_has_no_effect_in_a_single_process():
    images, teacher, weight = batch()
    logits = student()(images)
    plain = DISTLoss(use_sigmoid=True)(logits, teacher, weight)
    assert torch.equal(LOSSES['sigmoid'](logits, teacher, weight), plain)


def test_nothing_is_exchanged_before_training(monkeypatch, tmp_path):
    """MMEngine's strategies call ``init_weights`` on the CPU, where NCCL cannot communicate."""
    def all_gather(*args):
        raise RuntimeError('No backend type associated with device type cpu')

    monkeypatch.setattr('mmkd.losses.fast.closed_form.distributed', SimpleNamespace(
        is_available=lambda: True, is_initialized=lambda: True, get_world_size=lambda: 2,
        all_gather=all_gather))
    teacher = save_teacher(tmp_path / 't.pth', retinanet())
    entry = dict(type='mmkd.DISTLoss', on='cls', sync=True)
    build(distiller(retinanet(), teacher, entry)).prepare()


def test_sync_must_be_a_flag():
    with pytest.raises(TypeError, match="`sync` must be True or False, but got 'all'"):
        DISTLoss(sync='all')


# --- whole models in a loop without a Runner and without `find_unused_parameters` ----------------

BY_HAND = {
    'detector': (detector, images),
    'segmentor': (segmenting, streets_of),
    'mutual': (mutual, images),
    'layers': (layered, images),
    'batch norm': (lambda folder: detector(folder, norm_eval=False), images),
    'no objects': (detector, half_empty),
    'no objects, two stages': (two_stages, half_empty),
}


# --- Runners -------------------------------------------------------------------------------------


class KeepEach(Hook):
    """Stores the losses of every iteration in this process."""

    def __init__(self):
        self.losses = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append({name: value.item() for name, value in outputs.items()})


def run(folder, data, name, runner_type=Runner, connector=False, hook=False, **changes):
    teacher = dict(config=dict(default_scope='mmdet', model=retinanet(channels=24)),
                   checkpoint=f'{folder}/detector.pth')
    entries = [dict(type='mmkd.DISTLoss', on='cls')]
    entries += [dict(type='mmkd.MSELoss', on='neck')] if connector else []
    config = detector_config(
        data, retinanet() if hook else distiller(retinanet(), teacher, *entries),
        f'{folder}/{name}', launcher='pytorch', env_cfg=dict(dist_cfg=dict(backend='gloo')), **{
            'train_cfg.max_epochs': 3, 'train_cfg.val_interval': 9,
            'default_hooks.checkpoint.interval': -1, 'default_hooks.checkpoint.save_last': False})
    config.merge_from_dict(changes)
    if hook:
        config.custom_hooks = [dict(type='mmkd.DistillHook', teacher=teacher, distill=entries)]
    runner, keep = runner_type.from_cfg(config), KeepEach()
    runner.register_hook(keep)
    runner.train()
    beside = [] if hook else runner.model.module.distillation.trained_beside
    inside = {id(p) for group in runner.optim_wrapper.param_groups for p in group['params']}
    assert all(id(p) in inside for p in beside)
    return keep.losses, [p.detach().clone() for p in beside]


DDP = dict(type='MMDistributedDataParallel', broadcast_buffers=False, device_ids=None)
FSDP = dict(type='MMFullyShardedDataParallel', device_id=torch.device('cpu'))
RUNS = {
    'Runner': dict(model_wrapper_cfg=DDP, connector=True),
    'DDPStrategy': dict(runner_type=FlexibleRunner, connector=True,
                        strategy=dict(type='DDPStrategy', model_wrapper=DDP)),
    'logits': dict(model_wrapper_cfg=DDP),
    'hook': dict(model_wrapper_cfg=DDP, hook=True),
}
if torch_version >= (2, 4):  # older ones cannot shard on a CPU
    RUNS['FSDPStrategy'] = dict(runner_type=FlexibleRunner,
                                strategy=dict(type='FSDPStrategy', model_wrapper=FSDP))


def work_whole(rank, folder, data):
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    os.environ['LOCAL_RANK'] = str(rank)
    distributed.init_process_group('gloo', rank=rank, world_size=2,
                                   init_method=f'file://{folder}/second')
    found = {}
    for name, (make, batch_of) in BY_HAND.items():
        model = make(folder)
        wrapper = MMDistributedDataParallel(model, broadcast_buffers=False)
        found[name] = three_steps(model, wrapper, batch_of([rank]))
    for name, how in RUNS.items():
        found[name] = run(folder, data, name, **how)
    torch.save(found, f'{folder}/whole{rank}.pth')
    del model, wrapper
    leave_group()


@pytest.fixture(scope='module')
def processes(tmp_path_factory, shapes):
    """Return the results of both processes, and the folder with the teachers."""
    folder = str(tmp_path_factory.mktemp('processes'))
    save_teachers(folder)
    multiprocessing.spawn(work_whole, (folder, shapes), nprocs=2)
    return [torch.load(f'{folder}/whole{rank}.pth') for rank in range(2)], folder


@pytest.mark.slow
@pytest.mark.parametrize('name', ['detector', 'segmentor', 'mutual', 'layers'])
def test_two_processes_train_as_one_that_has_the_whole_batch(processes, name):
    """Terms are switched off and on. Connectors and partners get the same weights, too."""
    parts, folder = processes
    parts = [part[name] for part in parts]
    make, batch_of = BY_HAND[name]
    model = make(folder)
    logs, gradients, weights = three_steps(model, model, batch_of([0, 1]))
    for number, whole in enumerate(logs):
        for key, value in whole.items():
            mean = sum(part[0][number][key] for part in parts) / 2
            assert mean == pytest.approx(value, rel=1e-5), (number, key)
    assert all(logs[1][match.name] == 0 < logs[2][match.name] for match in model.terms)
    beside = len(model.distillation.trained_beside)
    assert beside >= 8
    assert all(one is not None for one in gradients[0][-beside:])
    assert any(one.any() for one in gradients[0][-beside:])
    for part in parts:
        for number, whole in enumerate(gradients):
            assert len(part[1][number]) == len(whole)
            for one, other in zip(part[1][number], whole):
                assert (one is None) == (other is None)
                if other is not None:
                    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
        for key, tensor in weights.items():
            torch.testing.assert_close(part[2][key], tensor, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize('name', BY_HAND)
def test_both_processes_have_the_same_weights(processes, name):
    """Also with trainable batch norms, and if one process has only images without objects."""
    (logs, _, weights), (other_logs, _, others) = (part[name] for part in processes[0])
    for key, tensor in weights.items():
        assert torch.equal(tensor, others[key]), key
        assert tensor.isfinite().all(), key
    assert any(key.startswith('beside') for key in weights)
    assert logs != other_logs


@pytest.mark.slow
def test_runners_train_alike_in_two_processes(processes):
    """MMEngine's two Runners with a connector; without a connector, the hook."""
    for part in processes[0]:
        assert len(part['Runner'][0]) == 3
        assert part['Runner'][0] == part['DDPStrategy'][0]
        assert part['logits'][0] == part['hook'][0]
    first, second = (part['DDPStrategy'][1] for part in processes[0])
    assert len(first) == 10
    assert all(torch.equal(one, other) for one, other in zip(first, second))


@pytest.mark.slow
@pytest.mark.skipif('FSDPStrategy' not in RUNS, reason='before torch 2.4, FSDP needs a GPU')
def test_a_sharded_student_trains_like_a_whole_one(processes):
    for part in processes[0]:
        assert part['FSDPStrategy'][0]
        for one, other in zip(part['logits'][0], part['FSDPStrategy'][0]):
            assert one == pytest.approx(other, rel=1e-5)
