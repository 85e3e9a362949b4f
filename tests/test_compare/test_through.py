"""A value of the student that goes on through its teacher."""
import pytest
import torch
from conftest import build, distiller, retinanet, save_teacher, step, two_stage
from loops import images

PATH = 'bbox_head.cls_convs.0'
ENTRY = dict(type='mmkd.KDLoss', on='cls', through=dict(student=PATH, teacher=PATH))


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    return save_teacher(tmp_path_factory.mktemp('t') / 't.pth', retinanet(width=12))


def prepared(student, teacher, *entries):
    torch.manual_seed(3)
    model = build(distiller(student, teacher, *entries))
    model.init_weights()
    return model


def batch(model):
    data = model.data_preprocessor(images((0, 1)), True)
    return data['inputs'], data['data_samples']


def test_it_is_the_teachers_head_on_the_students_tower(teacher):
    """Worked out layer by layer: RetinaNet's tower has one layer here, its last is retina_cls."""
    model = prepared(retinanet(), teacher, ENTRY)
    inputs, samples = batch(model)
    losses = model(inputs, samples, mode='loss')['loss_cls_kd']
    network = model.teacher.model
    towers = [model.student.bbox_head.cls_convs[0](x) for x in model.student.extract_feat(inputs)]
    with torch.no_grad():
        others = network.bbox_head(network.extract_feat(inputs))[0]
    for loss, tower, t in zip(losses, towers, others):
        s = network.bbox_head.retina_cls(tower)
        p, q = t.sigmoid(), s.sigmoid()
        each = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
        expected = each.sum() / s[:, 0].numel()
        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-6)


def test_gradient_reaches_the_tower_alone_and_no_teacher(teacher):
    model = prepared(retinanet(), teacher, ENTRY)
    inputs, samples = batch(model)
    sum(model(inputs, samples, mode='loss')['loss_cls_kd']).backward()
    head = model.student.bbox_head
    assert head.cls_convs[0].conv.weight.grad.abs().sum() > 0
    assert head.retina_cls.weight.grad is None  # the teacher's layer took its place
    assert head.reg_convs[0].conv.weight.grad is None
    assert all(p.grad is None for p in model.teacher.model.parameters())


def test_two_stages_continue_at_the_students_rois(tmp_path):
    entry = save_teacher(tmp_path / 't.pth', two_stage(width=12))
    path = 'roi_head.bbox_head.shared_fcs.1'
    model = prepared(two_stage(), entry, dict(
        type='mmkd.KDLoss', on='cls', through=dict(student=path, teacher=path)))
    inputs, samples = batch(model)
    _, seen, told = step(model, inputs, samples)
    recorded = seen[path][-1].output
    # mmdet applies ReLU outside of the layer.
    scores = model.teacher.model.roi_head.bbox_head.fc_cls(recorded.relu())
    own, _ = model.terms[0].levels(seen, told)
    torch.testing.assert_close(own[0], scores)


@pytest.mark.parametrize(('entry', 'message'), [
    (dict(ENTRY, through=PATH), r'`through` must be dict\(student=PATH, teacher=PATH\)'),
    (dict(ENTRY, through=dict(student=PATH, teacher='bbox_head.cls_conv.0')),
     r'no point `bbox_head.cls_conv.0` in the teacher.*closest: `bbox_head.cls_convs.0`'),
    (dict(ENTRY, through=dict(student='backbone', teacher=PATH)), '`through`'),
    (dict(ENTRY, on=dict(student='cls', teacher='student:cls'), stage=None), 'itself|frozen')])
def test_mistakes_are_named(teacher, entry, message):
    with pytest.raises((TypeError, ValueError), match=message):
        prepared(retinanet(), teacher, entry)


def test_other_channels_at_the_place_are_named(tmp_path):
    wide = save_teacher(tmp_path / 'wide.pth', retinanet(channels=24))
    with pytest.raises(ValueError, match='`through`: the module of the student returns 1x16x.*'
                       'teacher 1x24x.*channels there'):
        prepared(retinanet(), wide, ENTRY)
