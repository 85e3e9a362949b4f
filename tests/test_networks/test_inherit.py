"""The weights that a student inherits from its teacher."""
import pytest
import torch
from conftest import build, detector_config, distiller, retinanet, save_teacher, saved_at, train
from torch import nn

from mmkd.networks.inherit import Inheritance

DIST = dict(type='mmkd.DISTLoss', on='cls')


class Blocks(nn.Module):
    """Two stages of blocks, as in a backbone, and a head."""

    def __init__(self, depths, width=4):
        super().__init__()
        self.backbone = nn.Module()
        for stage, depth in enumerate(depths):
            self.backbone.add_module(f'layer{stage}', nn.Sequential(*(
                nn.Linear(width, width) for _ in range(depth))))
        self.head = nn.Linear(width, 3)


@pytest.mark.parametrize(('depth', 'expected'), [
    ('spread', [0, 2, 5]), ('first', [0, 1, 2]), ('last', [3, 4, 5])])
def test_blocks_of_a_deeper_teacher(depth, expected):
    teacher, student = Blocks([6, 3]), Blocks([3, 3])
    Inheritance('backbone', depth=depth).pass_on(teacher, student)
    for number, origin in enumerate(expected):
        assert torch.equal(student.backbone.layer0[number].weight,
                           teacher.backbone.layer0[origin].weight)
    for number in range(3):
        assert torch.equal(student.backbone.layer1[number].bias,
                           teacher.backbone.layer1[number].bias)
    assert not torch.equal(student.head.weight, teacher.head.weight)


def test_inherited_blocks_of_single_block_stages():
    teacher = Blocks([4])
    for depth, origin in (('spread', 0), ('first', 0), ('last', 3)):
        student = Blocks([1])
        Inheritance('backbone', depth=depth).pass_on(teacher, student)
        assert torch.equal(student.backbone.layer0[0].weight,
                           teacher.backbone.layer0[origin].weight)


def test_first_channels_of_a_wider_teacher():
    teacher, student = Blocks([2], width=6), Blocks([2], width=4)
    with pytest.raises(ValueError, match='can inherit nothing of `backbone`.*`width=True`'):
        Inheritance('backbone').pass_on(teacher, student)
    Inheritance(['backbone', 'head'], width=True).pass_on(teacher, student)
    assert torch.equal(student.backbone.layer0[1].weight,
                       teacher.backbone.layer0[1].weight[:4, :4])
    assert torch.equal(student.head.weight, teacher.head.weight[:, :4])


def test_student_inherits_neck_and_head(shapes, tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', retinanet(width=12))
    torch.manual_seed(3)
    model = build(dict(distiller(retinanet(), teacher, DIST), inherit='neck, head'))
    model.init_weights()
    own, given = model.state_dict(), model.teacher.model.state_dict()
    same = {name for name, value in own.items()
            if value.shape == given[name].shape and torch.equal(value, given[name])}
    assert {name for name in own if name.startswith('bbox_head')} <= same
    assert 'neck.fpn_convs.0.conv.weight' in same
    assert 'backbone.conv1.weight' not in same
    # Weights are copied: training the student does not change the teacher.
    with torch.no_grad():
        model.bbox_head.retina_cls.weight.add_(1)
    assert not torch.equal(model.bbox_head.retina_cls.weight,
                           model.teacher.model.bbox_head.retina_cls.weight)


def test_loaded_weights_precede_inherited_weights(shapes, tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', retinanet(width=12))
    own = save_teacher(tmp_path / 'own.pth', retinanet(), seed=5)['checkpoint']
    model = dict(distiller(retinanet(), teacher, DIST), inherit='head')
    runner, _ = train(detector_config(shapes, model, str(tmp_path / 'run'), **{
        'optim_wrapper.optimizer.lr': 0., 'load_from': own}))
    expected = saved_at(own)['state_dict']['bbox_head.retina_cls.weight']
    assert torch.equal(runner.model.state_dict()['bbox_head.retina_cls.weight'], expected)


@pytest.mark.parametrize(('entry', 'message'), [
    ('', "`inherit` must be a string of parts"), ([1], '`inherit` must be a string of parts'),
    (dict(parts='head', depth='every'), '`depth` of `inherit` must be one of'),
    (dict(part='head'), '`inherit` cannot be read'), (3, '`inherit` must be a string of parts'),
])
def test_mistakes_are_named(entry, message):
    with pytest.raises((TypeError, ValueError), match=message):
        build(dict(distiller(retinanet(), dict(config=dict(model={}), checkpoint=None)),
                   inherit=entry))


def test_part_that_is_not_there_is_named(tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', retinanet())
    model = build(dict(distiller(retinanet(), teacher, DIST), inherit='nek'))
    with pytest.raises(ValueError, match='contains `nek`, but the student has no such part'):
        model.init_weights()


def test_inherits_from_a_trained_teacher_alone():
    for teacher in (dict(type='mmkd.MeanTeacher'), None):
        model = dict(type='mmkd.Distiller', student=retinanet(), teacher=teacher, inherit='head',
                     distill=[DIST], companions=None if teacher else dict(other=dict(
                         config=dict(model=retinanet(), default_scope='mmdet'))))
        if not teacher:
            model['distill'] = [dict(DIST, on=dict(student='cls', teacher='other:cls'))]
        with pytest.raises(ValueError, match='`inherit` copies weights of a trained `teacher`'):
            build(model).init_weights()
