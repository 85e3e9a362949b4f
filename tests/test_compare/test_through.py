"""`through`: a value of the student that is passed through the teacher's layers."""
import pytest
import torch
from conftest import build, distiller, retinanet, save_teacher, step, two_stage
from loops import images

from mmkd.networks.continued import Replaced, continued, rescaled

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


def test_teachers_head_is_applied_to_the_students_tower(teacher):
    """Compared layer by layer. RetinaNet's tower has one layer here, and retina_cls follows it."""
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
    assert head.retina_cls.weight.grad is None  # replaced by the teacher's layer
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
    (dict(ENTRY, through=dict(student=PATH, teacher=PATH, rescale=1)), 'may have `rescale=True`'),
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


@pytest.mark.parametrize(('rescale', 'path'), [(True, f'{PATH}.conv'), ('relu', PATH)])
def test_rescaled_values_have_the_teachers_statistics(teacher, rescale, path):
    """At a layer before a ReLU, which changes the value in place, and after the ReLU."""
    model = prepared(retinanet(), teacher, dict(
        ENTRY, through=dict(student=path, teacher=path, rescale=rescale)))
    inputs, samples = batch(model)
    _, seen, told = step(model, inputs, samples)
    found, _ = model.terms[0].levels(seen, told)
    network = model.teacher.model
    for level, x, other in zip(found, model.student.extract_feat(inputs),
                               network.extract_feat(inputs)):
        own, its = model.student.bbox_head.cls_convs[0].conv(x), network.bbox_head.cls_convs[
            0].conv(other)
        if rescale == 'relu':
            own, its = own.relu(), its.relu()
        (deviation, mean), (its_deviation, its_mean) = (
            torch.std_mean(one, (0, 2, 3), keepdim=True) for one in (own, its))
        scaled = (own - mean) / (deviation + 1e-6) * its_deviation + its_mean
        torch.testing.assert_close(level, network.bbox_head.retina_cls(scaled.relu()), rtol=1e-4,
                                   atol=1e-5)


def test_a_channel_without_deviation_gets_the_mean():
    """With one position, or with equal values, the result is finite and the gradient is 0."""
    for own in (torch.full((1, 2, 1, 1), 3.), torch.full((2, 2, 4, 4), 5.)):
        own.requires_grad_()
        other = torch.randn(own.shape)
        found = rescaled(own, other)
        torch.testing.assert_close(found, other.mean((0, 2, 3), keepdim=True).expand_as(own))
        found.square().sum().backward()
        assert own.grad.isfinite().all()
    half = torch.randn(2, 2, 4, 4).half()
    assert rescaled(300 * half, half).isfinite().all()


def test_what_cannot_be_rescaled_is_named(teacher):
    model = prepared(retinanet(), teacher, ENTRY).teacher.model
    image = torch.zeros(1, 3, 64, 64)
    values = Replaced('neck', [model.extract_feat(image)], True)
    with pytest.raises(ValueError, match='`rescale=True` needs a module that returns a map .* '
                       '`neck` returns tuple'), continued(model, values):
        model.extract_feat(image)


@pytest.mark.parametrize('is_committee', [False, True])
def test_a_cached_teacher_is_refused_before_any_model_runs(teacher, tmp_path, is_committee):
    cached = dict(teacher, type='mmkd.CachedTeacher', cache=str(tmp_path / 'c'))
    source = dict(type='mmkd.Committee', members=[teacher, cached]) if is_committee else cached
    with pytest.raises(ValueError, match='needs a frozen teacher, but `teacher` is a '
                                         'CachedTeacher; use a mmkd.FrozenTeacher'):
        build(distiller(retinanet(), source, ENTRY))
