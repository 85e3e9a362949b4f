"""Two processes against one that has the whole batch."""
import os

import pytest
import torch
from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from mmkd import DISTLoss

LOSSES = dict(softmax=DISTLoss(0.5, 2., tau=2., sync=True, use_sigmoid=False, loss_weight=3.),
              sigmoid=DISTLoss(sync=True, use_sigmoid=True))


def batch():
    """Images, what the teacher says of them, weights; of the last two images nothing counts."""
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
    """The first process has 3 images, the second 2, of which nothing may count."""
    distributed.init_process_group('gloo', rank=rank, world_size=2,
                                   init_method=f'file://{folder}/meeting')
    model = DistributedDataParallel(student())
    parts = slice(0, 3) if rank == 0 else slice(3, 5)
    found = {flag: values_and_gradients(model, parts, flag) for flag in (False, True)}
    torch.save(found, os.path.join(folder, f'{rank}.pth'))
    distributed.destroy_process_group()


def test_synchronised_dist_is_that_of_the_whole_batch(tmp_path):
    multiprocessing.spawn(work, (str(tmp_path), ), nprocs=2)
    for rank in range(2):
        found = torch.load(tmp_path / f'{rank}.pth')
        for flag in (False, True):
            expected = values_and_gradients(student(), slice(0, 5), flag)
            assert [one.shape for one in found[flag]] == [one.shape for one in expected]
            for one, other in zip(found[flag], expected):
                torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_alone_or_without_processes_it_changes_nothing():
    images, teacher, weight = batch()
    logits = student()(images)
    plain = DISTLoss(use_sigmoid=True)(logits, teacher, weight)
    assert torch.equal(LOSSES['sigmoid'](logits, teacher, weight), plain)


def test_sync_must_be_a_flag():
    with pytest.raises(TypeError, match="`sync` must be True or False, but got 'all'"):
        DISTLoss(sync='all')
