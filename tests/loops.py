"""Whole models and a training loop without a Runner, shared by the tests of training modes."""
import copy

import torch
from conftest import build, distiller, retinanet, save_teacher, segmentor, two_stage
from mmengine.optim import OptimWrapper
from mmengine.structures import InstanceData, PixelData
from torch import nn

from mmkd.losses import LOSSES, Bank, DistillLoss, gathered

GROUP_NORM = dict(type='GN', num_groups=4)


def detector(folder, norm_eval=True):
    """The backbone has frozen batch norms, the neck has group norms, a term has a connector."""
    student = retinanet()
    student['backbone']['norm_eval'] = norm_eval
    student['neck']['norm_cfg'] = GROUP_NORM
    teacher = dict(config=dict(default_scope='mmdet', model=retinanet(channels=24)),
                   checkpoint=f'{folder}/detector.pth')
    return prepared(dict(distiller(
        student, teacher, dict(type='mmkd.DISTLoss', on='cls', sync=True),
        dict(type='mmkd.KDLoss', on='cls'), dict(type='mmkd.MSELoss', on='neck'))))


def two_stages(folder):
    teacher = dict(config=dict(default_scope='mmdet', model=two_stage(channels=24)),
                   checkpoint=f'{folder}/two_stage.pth')
    return prepared(distiller(two_stage(), teacher, dict(type='mmkd.DISTLoss', on='cls'),
                              dict(type='mmkd.MSELoss', on='neck')), is_double=False)


def mutual(folder):
    """A student and a partner that learn from each other."""
    models = [retinanet(), retinanet(channels=24)]
    for model in models:
        model['backbone']['norm_eval'] = True
    other = dict(config=dict(default_scope='mmdet', model=models[1]))
    return prepared(dict(
        type='mmkd.Distiller', student=models[0], companions=dict(other=other),
        distill=[dict(type='mmkd.KDLoss', on='cls', between=['student', 'other'])]))


def segmenting(folder):
    student = segmentor(classes=4, norm_cfg=GROUP_NORM, dropout_ratio=0.)
    student['backbone']['norm_eval'] = True
    student['auxiliary_head'].update(norm_cfg=GROUP_NORM, dropout_ratio=0.)
    teacher = dict(config=dict(default_scope='mmseg', model=segmentor(width=12, classes=4)),
                   checkpoint=f'{folder}/segmentor.pth')
    return prepared(distiller(
        student, teacher, dict(type='mmkd.DISTLoss', on='cls', sync=True),
        dict(type='mmkd.KDLoss', on='aux'), dict(type='mmkd.MSELoss', on='backbone')), 'mmseg')


@LOSSES.register
class ProjectedLoss(DistillLoss):
    """A loss with one trainable layer per level."""

    must_match = frozenset({'positions'})

    def setup(self, student_channels, teacher_channels):
        self.project = nn.Conv2d(student_channels, teacher_channels, 1)

    def compare(self, student, teacher):
        return (self.project(student) - teacher).square().mean()


@LOSSES.register
class RowsOfAllLoss(DistillLoss):
    """Compares each image with the images of all processes and with stored ones."""

    must_match = frozenset()
    communicates = True

    def setup(self, student_channels, teacher_channels):
        self.project = nn.Linear(student_channels, teacher_channels)
        self.bank = Bank(6, teacher_channels)

    def compare(self, student, teacher):
        own, other = self.project(student.mean((2, 3))), teacher.mean((2, 3))
        past, is_filled = self.bank.table()
        near = (torch.cdist(gathered(own), gathered(other)).mean() +
                (torch.cdist(own, past.to(own)) * is_filled).mean())
        self.bank.push(other)
        return near


def layered(folder):
    """Losses with layers; one of them gathers rows from all processes and stores them."""
    student = retinanet()
    student['backbone']['norm_eval'] = True
    student['neck']['norm_cfg'] = GROUP_NORM
    teacher = dict(config=dict(default_scope='mmdet', model=retinanet(channels=24)),
                   checkpoint=f'{folder}/detector.pth')
    return prepared(distiller(student, teacher, dict(type='mmkd.ProjectedLoss', on='neck'),
                              dict(type='mmkd.RowsOfAllLoss', on='backbone')))


def prepared(model, scope='mmdet', is_double=True):
    torch.manual_seed(2)
    model = build(model, scope)
    model.init_weights()
    if is_double:  # DIST of an untrained student is steep: rounding alone changes gradients by 1e-3
        model.double()
        model.data_preprocessor.register_forward_hook(
            lambda module, args, data: dict(data, inputs=data['inputs'].double()))
    return model.train()


def save_teachers(folder):
    save_teacher(f'{folder}/detector.pth', retinanet(channels=24))
    save_teacher(f'{folder}/two_stage.pth', two_stage(channels=24))
    save_teacher(f'{folder}/segmentor.pth', segmentor(width=12, classes=4), list('abcd'),
                 scope='mmseg')


def images(numbers, has_objects=(True, True)):
    """All images have the same boxes: mmdet divides each process's losses by its own positives."""
    from mmdet.structures import DetDataSample
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randint(0, 256, (2, 3, 64, 64), generator=generator, dtype=torch.uint8)
    samples = []
    for flag in has_objects:
        sample = DetDataSample(metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64),
                                             scale_factor=(1., 1.)))
        boxes = torch.tensor([[4., 4., 40., 44.], [20., 8., 60., 50.]])
        sample.gt_instances = InstanceData(bboxes=boxes if flag else boxes[:0],
                                           labels=torch.arange(2 if flag else 0))
        samples.append(sample)
    return dict(inputs=[inputs[n] for n in numbers], data_samples=[samples[n] for n in numbers])


def half_empty(numbers):
    return images(numbers, (True, False))


def streets_of(numbers):
    from mmseg.structures import SegDataSample
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randint(0, 256, (2, 3, 64, 64), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 4, (2, 1, 64, 64), generator=generator)
    samples = [SegDataSample(metainfo=dict(img_shape=(64, 64)), gt_sem_seg=PixelData(data=one))
               for one in labels]
    return dict(inputs=[inputs[n] for n in numbers], data_samples=[samples[n] for n in numbers])


class Keeping(OptimWrapper):
    """Stores the gradients of all parameters in the optimizer at every step."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.kept = []

    def step(self, **kwargs):
        self.kept.append([None if p.grad is None else p.grad.clone()
                          for group in self.param_groups for p in group['params']])
        super().step(**kwargs)


def three_steps(model, wrapper, batch):
    """Train for three steps; the factor of all teacher terms is 0 in the second step."""
    optim_wrapper = Keeping(torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=1e-3))
    logs = []
    for factor in (1., 0., 1.):
        for match in model.terms:
            match.factor = factor
        logged = wrapper.train_step(copy.deepcopy(batch), optim_wrapper)
        logs.append({name: value.item() for name, value in logged.items()})
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    weights.update({f'beside.{number}': p.detach().clone()
                    for number, p in enumerate(model.distillation.trained_beside)})
    return logs, optim_wrapper.kept, weights
