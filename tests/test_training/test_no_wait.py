"""A distilled step makes the CPU wait for a GPU no more often than its parts do without mmkd."""
import copy
from collections import Counter

import pytest
import torch
from conftest import CLASSES, build, distiller, retinanet, save_teacher, segmentor, two_stage
from loops import images, streets_of
from mmengine.optim import OptimWrapper
from support.waits import counted, decided_on_the_device

from mmkd.core.fields import VIEW

FLIPPED = tuple(reversed(CLASSES))
DIST = dict(type='mmkd.DISTLoss', on='cls')
NECK = dict(type='mmkd.MSELoss', on='neck')


def other_pixels(model):
    """Change the normalisation of a model."""
    model['data_preprocessor'].update(mean=[1., 2., 3.], std=[4., 5., 6.])
    return model


def dense(folder):
    teacher = save_teacher(folder / 't.pth', other_pixels(retinanet(channels=24)), FLIPPED)
    return retinanet(), teacher, [DIST, NECK], images([0, 1]), 'mmdet'


def background(folder):
    teacher = save_teacher(folder / 't.pth', retinanet(width=12))
    entry = dict(type='mmkd.KDLoss', on='cls', alpha=0.5, replaces='background', per_anchor=True)
    return retinanet(), teacher, [entry], images([0, 1]), 'mmdet'


def masked(folder):
    teacher = save_teacher(folder / 't.pth', segmentor(width=12, classes=4), list('abcd'),
                           scope='mmseg')
    data = streets_of([0, 1])
    for sample in data['data_samples']:
        sample.gt_sem_seg.data[:, :20] = 255
    entries = [dict(type=f'mmkd.{name}Loss', on='cls', mask='valid')
               for name in ('DIST', 'KD', 'CWD', 'MSE')]
    return segmentor(classes=4), teacher, entries, data, 'mmseg'


def rois(folder):
    teacher = save_teacher(folder / 't.pth', two_stage(channels=24))
    return two_stage(), teacher, [DIST, NECK], images([0, 1]), 'mmdet'


def committee(folder):
    members = [save_teacher(folder / f'{n}.pth', retinanet(width=12), seed=n) for n in (1, 2)]
    teacher = dict(type='mmkd.Committee', members=members, average='probability')
    return retinanet(), teacher, [dict(type='mmkd.KDLoss', on='cls')], images([0, 1]), 'mmdet'


def viewed(folder):
    teacher = save_teacher(folder / 't.pth', other_pixels(retinanet(channels=24)), FLIPPED)
    data = images([0, 1])
    for image, sample in zip(data['inputs'], data['data_samples']):
        sample.set_data({VIEW.format('weak'): image.clone()})
    return retinanet(), dict(teacher, view='weak'), [DIST, NECK], data, 'mmdet'


def forward_of(model, inputs, places):
    """Compute what a teacher alone needs: features, and the head that is compared."""
    with torch.no_grad():
        features = model.extract_feat(inputs)
        if hasattr(model, 'roi_head'):
            model.roi_head._bbox_forward(features, places)
        elif hasattr(model, 'bbox_head'):
            model.bbox_head(features)
        else:
            model.decode_head.forward(features)


def step_of(model, data):
    """Return a function that runs a step with a learning rate of 0, so that all steps are equal."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0., momentum=0.9)
    wrapper = OptimWrapper(optimizer, clip_grad=dict(max_norm=1.))

    def step():
        torch.manual_seed(7)
        return model.train_step(copy.deepcopy(data), wrapper)

    return step


@pytest.mark.parametrize('pair', [dense, background, masked, rois, committee, viewed])
def test_a_distilled_step_waits_as_often_as_its_parts(tmp_path, pair):
    student, teacher, entries, data, scope = pair(tmp_path)
    torch.manual_seed(3)
    plain = build(student, scope)
    plain.init_weights()
    plain.train()
    model = build(dict(distiller(student, teacher, *entries), classes=list(
        'abcd' if scope == 'mmseg' else CLASSES)), scope)
    model.init_weights()
    model.load_state_dict(plain.state_dict())
    model.train()
    steps = step_of(plain, data), step_of(model, data)
    for step in steps:  # the first step computes values that are kept
        step()
    with decided_on_the_device():
        for _ in range(2):
            expected, logged = steps[0](), steps[1]()
        with counted() as without:
            steps[0]()
        with counted() as distilled:
            again = steps[1]()
    inputs, places = model.data_preprocessor(copy.deepcopy(data), True)['inputs'], None
    if pair is rois:
        extractor = plain.roi_head.bbox_roi_extractor
        hook = extractor.register_forward_hook(lambda _, args, output: given.append(args[1]))
        given = []
        steps[0]()
        hook.remove()
        places = given[-1].detach()
    allowed = Counter(without)
    for name, network in model.distillation.networks.items():
        if name != 'student':
            with counted() as alone:
                forward_of(network.model, inputs, places)
            allowed += alone
    assert {name: value.item() for name, value in again.items()} == {
        name: value.item() for name, value in logged.items()}
    if pair is not background:  # here the student's own loss changes
        assert all(logged[name].item() == pytest.approx(value.item(), rel=1e-5)
                   for name, value in expected.items() if name not in ('loss', 'grad_norm'))
    assert without  # something is counted
    assert {name: (count, allowed[name]) for name, count in distilled.items()
            if count > allowed[name]} == {}


def test_the_partners_of_a_step_are_trained_without_a_wait(tmp_path):
    """Compared with a separate step of each model. The gradient norm is read only once."""
    models = [build(retinanet(width=width)) for width in (8, 12)]
    data, allowed = images([0, 1]), Counter()
    for one in models:
        one.init_weights()
        step = step_of(one.train(), data)
        step()
        with counted() as alone:
            step()
        allowed += alone
    torch.manual_seed(3)
    model = build(dict(
        type='mmkd.Distiller', student=retinanet(), classes=list(CLASSES),
        companions=dict(other=dict(config=dict(default_scope='mmdet', model=retinanet(width=12)))),
        distill=[dict(type='mmkd.KDLoss', on='cls', between=['student', 'other'])]))
    model.init_weights()
    step = step_of(model.train(), data)
    with decided_on_the_device():
        for _ in range(3):
            step()
        with counted() as distilled:
            logged = step()
    assert logged['loss_cls_kd_from_other'] > 0
    assert {name: (count, allowed[name]) for name, count in distilled.items()
            if count > allowed[name]} == {}
