"""User extensions with committees, copies, cascades, faster teachers, and old classes."""
import copy
import warnings

import pytest
import torch
from conftest import build, detector_config, distiller, retinanet, save_teacher, train, two_stage
from loops import images
from mmengine.optim import OptimWrapper

import mmkd
from mmkd.compare.vocabulary import PROVIDERS, SHARED
from mmkd.losses import LOSSES, DistillLoss, LogitLoss
from mmkd.networks import FrozenTeacher

THROUGH = dict(student='bbox_head.cls_convs.0', teacher='bbox_head.cls_convs.0')


@pytest.fixture
def teacher(tmp_path):
    return save_teacher(tmp_path / 't.pth', retinanet(width=12))


def prepared(student, teacher, *entries):
    torch.manual_seed(3)
    model = build(distiller(student, teacher, *entries))
    model.init_weights()
    return model


def stepped(model, numbers=(0, 1)):
    return model(**model.data_preprocessor(images(numbers), True), mode='loss')


@pytest.fixture
def registered():
    """Return a decorator that registers losses for one test."""
    names = []

    def register(kind):
        names.append(kind.__name__)
        return LOSSES.register(kind)

    yield register
    for name in names:
        del LOSSES.classes[name]


def test_custom_value_for_a_region_and_a_connector(teacher):
    mmkd.provides('bright', per_level=False)(lambda context: context.batch.inputs.mean((1, 2, 3)))

    class Bright(mmkd.Region):

        def weigh(self, student, teacher, *, bright):
            return [one.new_ones(len(one), *one.shape[2:]) * bright.abs().view(-1, 1, 1)
                    for one in student]

    class Shift(mmkd.Connector):

        def setup(self, student_channels, teacher_channels):
            self.scale = torch.nn.Parameter(torch.ones(()))

        def forward(self, student, *, bright):
            return student * self.scale + bright.view(-1, 1, 1, 1)

    for kind in (Bright, Shift):
        mmkd.MODELS.register_module(module=kind, force=True)
    try:
        losses = stepped(prepared(retinanet(), teacher, dict(
            type='mmkd.MSELoss', on='neck', region=dict(type='mmkd.Bright'),
            connector=dict(type='mmkd.Shift'))))
    finally:
        del PROVIDERS['bright']
        SHARED.discard('bright')
    assert all(one > 0 for one in losses['loss_neck_mse'])


def test_teachers_with_the_old_method_name_still_work(tmp_path):
    calls = []

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')

        class OldTeacher(FrozenTeacher):

            def look(self, inputs, data_samples, questions):
                calls.append(len(inputs))
                return super().look(inputs, data_samples, questions)

    assert any('`observe`' in str(one.message) for one in said)
    mmkd.MODELS.register_module(module=OldTeacher, force=True)
    entry = dict(save_teacher(tmp_path / 't.pth', retinanet(width=12)), type='mmkd.OldTeacher')
    new = {key: value for key, value in entry.items() if key != 'type'}
    kd = dict(type='mmkd.KDLoss', on='cls')
    one, other = (stepped(prepared(retinanet(), each, kd))['loss_cls_kd'] for each in (entry, new))
    assert torch.equal(torch.stack(one), torch.stack(other))
    assert calls
    calls.clear()
    stepped(prepared(retinanet(), dict(type='mmkd.Committee', members=[entry, new]), kd))
    assert calls


def test_member_specific_losses_are_averaged_as_losses(tmp_path, registered):
    @registered
    class LayeredKDLoss(LogitLoss):

        def setup(self, student_channels, teacher_channels):
            self.scale = torch.nn.Parameter(torch.ones(()))

        def compare(self, student, teacher, weight=None):
            return (self.scale * student.sigmoid() - teacher.sigmoid()).square().mean()

    members = [save_teacher(tmp_path / f'{i}.pth', retinanet(width=12), seed=i) for i in range(2)]
    for entry in (dict(type='mmkd.LayeredKDLoss', on='cls'),
                  dict(type='mmkd.KDLoss', on='cls', through=THROUGH)):
        values = []
        for order in (members, members[::-1]):
            model = prepared(retinanet(), dict(type='mmkd.Committee', members=order), entry)
            assert not model.terms[0].averages_probabilities
            losses = stepped(model)
            values.append(float(torch.stack(losses[model.terms[0].name]).sum()))
        assert values[0] == pytest.approx(values[1], rel=1e-5)
    model = prepared(retinanet(), dict(type='mmkd.Committee', members=members),
                     dict(type='mmkd.LayeredKDLoss', on='cls'))
    sum(stepped(model)['loss_cls_layeredkd']).backward()
    assert all(one.grad is not None for one in model.distillation.trained_beside)


def test_through_does_not_use_fused_layers(shapes, tmp_path):
    student = retinanet()
    student['bbox_head']['norm_cfg'] = dict(type='BN')
    path = dict(student='bbox_head.cls_convs.0.conv', teacher='bbox_head.cls_convs.0.conv')
    entry = dict(type='mmkd.KDLoss', on='cls', through=path)
    teacher = save_teacher(tmp_path / 't.pth', student)
    plain, fused = (train(detector_config(shapes, distiller(
        student, dict(teacher, fuse=fuse), entry), str(tmp_path / f'{fuse}')))[1]
        for fuse in (False, True))
    for one, other in zip(plain, fused):
        assert one['loss_cls_kd'] == pytest.approx(other['loss_cls_kd'], rel=1e-4)


def test_communication_at_a_layer_of_a_cascade_is_refused(tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', two_stage('cascade-rcnn', width=12))
    with pytest.raises(ValueError, match='a cascade, which may stop before a stage'):
        prepared(two_stage('cascade-rcnn'), teacher, dict(
            type='mmkd.DISTLoss', on='roi_head.bbox_head.1.fc_cls', sync=True))


def test_training_a_copy_trains_shared_modules(tmp_path):
    wide = save_teacher(tmp_path / 'w.pth', retinanet(channels=24))
    model = copy.deepcopy(prepared(retinanet(), wide, dict(type='mmkd.MSELoss', on='neck')))
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01))
    before = [one.detach().clone() for one in model.distillation.trained_beside]
    for _ in range(2):
        model.train_step(images((0, 1)), wrapper)
    assert not any(torch.equal(a, b) for a, b in zip(before, model.distillation.trained_beside))


def test_levels_have_one_number_in_setup_and_compare(teacher, registered):
    seen = []

    @registered
    class NumberedLoss(DistillLoss):

        def setup(self, student_channels, teacher_channels, *, level, stride):
            self.number = level
            seen.append(('setup', level, stride))

        def compare(self, student, teacher, weight=None, *, level, stride):
            seen.append(('compare', level, stride))
            assert level == self.number
            return (student - teacher).square().mean()

    model = prepared(retinanet(), teacher, dict(type='mmkd.NumberedLoss', on='neck',
                                                levels=[2, 3]))
    assert [one for one in seen if one[0] == 'setup'] == [('setup', 2, 32.), ('setup', 3, 64.)]
    seen.clear()
    stepped(model)
    assert seen == [('compare', 2, 32.), ('compare', 3, 64.)]


def test_iterations_are_counted_without_a_runner(teacher, registered):
    seen = []

    @registered
    class CountingLoss(DistillLoss):

        def compare(self, student, teacher, weight=None, *, iteration):
            seen.append(iteration)
            return (student - teacher).square().mean()

    model = prepared(retinanet(), teacher, dict(type='mmkd.CountingLoss', on='neck', levels=[0]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    seen.clear()
    for _ in range(3):
        optimizer.zero_grad()
        sum(sum(one) if isinstance(one, list) else one
            for one in stepped(model.train()).values()).backward()
        optimizer.step()
    assert seen == [0, 1, 2]


def test_path_that_the_point_does_not_depend_on_is_refused(teacher):
    entry = dict(type='mmkd.KDLoss', on='cls', through=dict(
        student='bbox_head.reg_convs.0', teacher='bbox_head.reg_convs.0'))
    model = prepared(retinanet(), teacher, entry)
    with pytest.raises(ValueError, match='`through`: the prediction of the teacher at `cls` does '
                                         'not depend on .*that this point depends on'):
        stepped(model)


def test_further_points_of_other_strides_are_refused(tmp_path, registered):
    @registered
    class StridedLoss(DistillLoss):
        also = ('backbone', )

        def compare(self, student, teacher, weight=None, *, teacher_also):
            return (student - teacher).square().mean()

    config = retinanet()
    config['neck'].update(num_outs=4)
    config['bbox_head']['anchor_generator'].update(strides=[8, 16, 32, 64])
    teacher = save_teacher(tmp_path / 't.pth', config)
    with pytest.raises(ValueError, match='the levels of `backbone` in `also` have the strides 4, '
                                         '8, 16, 32, but those of `neck` have 8, 16, 32, 64'):
        prepared(config, teacher, dict(type='mmkd.StridedLoss', on='neck'))


def test_optional_parameters_are_not_requested_values(registered):
    @registered
    class EpsLoss(DistillLoss):

        def compare(self, student, teacher, weight=None, *, eps=1e-6):
            return ((student - teacher).abs() + eps).mean()

    assert EpsLoss()(torch.zeros(1, 2), torch.zeros(1, 2)) == pytest.approx(1e-6)


def test_calling_a_loss_before_setup_raises(registered):
    @registered
    class UnsetLoss(DistillLoss):

        def setup(self, student_channels, teacher_channels):
            self.layer = torch.nn.Linear(student_channels, teacher_channels)

        def compare(self, student, teacher):
            return self.layer(student).mean()

    with pytest.raises(AttributeError, match='no attribute .layer.; if its `setup` makes it, call'):
        UnsetLoss()(torch.zeros(1, 2), torch.zeros(1, 2))
