"""Two processes against one that has the whole batch."""
import copy
import os

import pytest
import torch
from conftest import build, distiller, retinanet, save_teacher
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.structures import InstanceData
from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from mmkd import DISTLoss
from mmkd.beside import join_optimizer

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


# --- a detector with a connector, a term that stops and comes back -------------------------------


def detector(teacher):
    """No batch statistics: norms of the backbone are frozen, neck and head have none."""
    student = retinanet()
    student['backbone']['norm_eval'] = True
    torch.manual_seed(2)
    model = build(distiller(
        student, teacher, dict(type='mmkd.DISTLoss', on='cls', sync=True),
        dict(type='mmkd.KDLoss', on='cls'), dict(type='mmkd.MSELoss', on='neck')))
    model.init_weights()
    return model.train()


def images(numbers):
    """Boxes alike: mmdet divides the losses of a process by the number of its own positives."""
    from mmdet.structures import DetDataSample
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randint(0, 256, (2, 3, 64, 64), generator=generator, dtype=torch.uint8)
    samples = []
    for _ in range(2):
        sample = DetDataSample(metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64),
                                             scale_factor=(1., 1.)))
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor([[4., 4., 40., 44.], [20., 8., 60., 50.]]),
            labels=torch.arange(2))
        samples.append(sample)
    return dict(inputs=[inputs[n] for n in numbers], data_samples=[samples[n] for n in numbers])


def three_steps(model, wrapper, numbers):
    """In the second one a schedule has stopped all of the teacher's terms."""
    wrapper_of = OptimWrapper(torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=1e-3))
    join_optimizer(model.distillation.parameters, wrapper_of)  # as under a Runner
    logs = []
    for factor in (1., 0., 1.):
        for match in model.matches:
            match.factor = factor
        logged = wrapper.train_step(copy.deepcopy(images(numbers)), wrapper_of)
        logs.append({name: value.item() for name, value in logged.items()})
    weights = dict(model.state_dict())
    weights.update({f'connector.{i}': p for i, p in enumerate(model.distillation.parameters)})
    return logs, {name: tensor.detach().clone() for name, tensor in weights.items()}


def train_part(rank, folder, teacher):
    distributed.init_process_group('gloo', rank=rank, world_size=2,
                                   init_method=f'file://{folder}/second')
    model = detector(teacher)
    wrapper = MMDistributedDataParallel(model, broadcast_buffers=False)
    torch.save(three_steps(model, wrapper, [rank]), os.path.join(folder, f'part{rank}.pth'))
    distributed.destroy_process_group()


def test_detector_with_a_connector_trains_as_in_one_process(tmp_path):
    """Without `find_unused_parameters`, also where terms stop and come back."""
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet(channels=24))
    multiprocessing.spawn(train_part, (str(tmp_path), teacher), nprocs=2)
    parts = [torch.load(tmp_path / f'part{rank}.pth') for rank in range(2)]
    model = detector(teacher)
    logs, weights = three_steps(model, model, [0, 1])
    for number, whole in enumerate(logs):
        for name, value in whole.items():
            mean = sum(part[0][number][name] for part in parts) / 2
            # What two updates make of rounding: DIST of a new student is steep.
            rel = 1e-5 if number == 0 else 1e-4
            assert mean == pytest.approx(value, rel=rel, abs=1e-6), (number, name)
    assert logs[1]['loss_cls_kd'] == 0 < logs[2]['loss_cls_kd']
    assert any(name.startswith('connector') for name in weights)
    for _, found in parts:
        for name, tensor in weights.items():
            torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5)
