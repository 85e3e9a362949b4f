"""Levels are paired by stride: the rule alone, and pairs of models with different levels."""
import pytest
import torch
from conftest import _mmseg, build, distiller, observe, segmentor
from mmengine.config import Config

from mmkd.compare.levels import choose, is_ambiguous, pair_levels, shown_strides, stride_of
from mmkd.inspection import inspect_pair, table_of

HINT = dict(type='mmkd.MSELoss', on='backbone')


def squares(*sides):
    return [(side, side) for side in sides]


def paired(student, teacher, **kind):
    """Return the pairs and the unpaired levels for square maps."""
    found = pair_levels(squares(*student), squares(*teacher), **kind)
    return found and (found.pairs, *found.left_out)


# --- the rule -----------------------------------------------------------------------------------


@pytest.mark.parametrize(('student', 'teacher', 'expected'), [
    # P3 to P7 and P2 to P6
    ((64, 32, 16, 8, 4), (128, 64, 32, 16, 8), ([(0, 1), (1, 2), (2, 3), (3, 4)], [4], [0])),
    # STDC and DeepLabV3+: equal numbers of maps of a stride are paired in order
    ((64, 32, 64, 64), (128, 64, 64, 64), ([(0, 1), (2, 2), (3, 3)], [1], [0])),
    # unequal numbers of maps of a stride: only the last ones are paired
    ((128, 64, 32, 16), (128, 64, 64, 64), ([(0, 0), (1, 3)], [2, 3], [1, 2])),
    # lists in opposite order
    ((16, 32, 64), (64, 32, 16), ([(0, 2), (1, 1), (2, 0)], [], [])),
    # pairs have the order of the student's levels
    ((16, 32, 16), (32, 16, 16), ([(0, 1), (1, 0), (2, 2)], [], [])),
    # padding may add one position, but on small maps one position is another stride
    ((65, 33, 17), (64, 32, 16), ([(0, 0), (1, 1), (2, 2)], [], [])),
    ((3, 5), (2, 4), ([(1, 1)], [0], [0])),
    # an exact match precedes a match by padding
    ((33, 17), (33, 32, 16), ([(0, 0), (1, 2)], [], [1])),
    ((16, 17), (17, 16), ([(0, 1), (1, 0)], [], [])),
    # a padded map is paired only once
    ((17, 15, 8), (16, 8), ([(0, 0), (2, 1)], [1], [])),
    # a difference of two positions is not padding
    ((18, 8), (16, 8), ([(1, 1)], [0], [0])),
    # a single stride on both sides: maps are interpolated
    ((64, ), (8, ), ([(0, 0)], [], [])),
    ((37, 37), (32, 32), ([(0, 0), (1, 1)], [], [])),
    # no stride in common
    ((64, 32), (128, ), None),
    ((64, 64), (32, ), None),
    ((10, 20), (40, 80), None),
])
def test_levels_of_one_stride_are_paired(student, teacher, expected):
    assert paired(student, teacher) == expected


def test_predictions_of_a_stride_need_equal_counts():
    """CornerNet's heads are top left and bottom right, so the last two of four are no pair."""
    assert paired((64, 64, 32), (64, 32), is_prediction=True) == ([(2, 1)], [0, 1], [0])
    assert paired((64, 64, 64, 64), (64, 64), is_prediction=True) is None
    assert paired((64, 64, 64), (64, 64)) == ([(1, 0), (2, 1)], [0], [])


def test_height_and_width_are_compared():
    found = pair_levels([(16, 32), (32, 16)], [(32, 16), (16, 32)])
    assert found.pairs == [(0, 1), (1, 0)]


@pytest.mark.parametrize(('student', 'teacher', 'expected'), [
    ((32, 16, 8, 4), (16, ), (1, 0)),
    ((16, ), (32, 16), (0, 1)),
    ((32, 16), (32, 16), (0, 0)),
    ((64, ), (16, ), (0, 0)),
    ((33, 17), (16, ), (1, 0)),
    ((17, 16), (16, ), (1, 0)),
    ((32, 16), (64, ), None),
])
def test_first_head_with_a_counterpart_is_chosen(student, teacher, expected):
    assert choose(squares(*student), squares(*teacher)) == expected


@pytest.mark.parametrize(('side', 'image', 'stride'), [
    (16, 128, 8), (1, 128, 128), (17, 128, 8), (9, 128, 14), (36, 512, 14), (3, 320, 128),
    (2, 320, 256), (10, 320, 32), (9, 320, 36), (65, 512, 8), (1, 1, 1), (256, 128, 0.5),
    (85, 512, 6), (512, 512, 1),
    (15, 128, 9), (7, 64, 9),  # on small maps, one position less is another stride
])
def test_stride_of_a_map(side, image, stride):
    assert stride_of((side, side), (image, image)) == (stride, stride)


def test_strides_as_they_are_shown():
    assert shown_strides([(8, 8), (16, 32), (0.5, 0.5)]) == '8, 16x32, 0.5'


def test_ambiguous_levels_need_a_larger_image():
    assert is_ambiguous(squares(4, 2, 1, 1), squares(4, 2, 1))
    assert not is_ambiguous(squares(4, 2, 1, 1), squares(4, 2, 1, 1))
    # all maps have the same stride
    assert not is_ambiguous(squares(16, 16, 16), squares(32, 16, 16))
    assert is_ambiguous(squares(1), squares(1))  # pooled, or 1x1 only at this size


# --- pairs of models ----------------------------------------------------------------------------


def stdc():
    """mmseg's STDC1 with an eighth of the width. Its backbone has strides 8, 16, 8, 8."""
    model = Config.fromfile(_mmseg('_base_/models/stdc.py')).model.to_dict()
    model['backbone'].update(last_in_channels=(128, 64), out_channels=16,
                             ffm_cfg=dict(in_channels=48, out_channels=32, scale_factor=4))
    model['backbone']['backbone_cfg']['channels'] = (4, 8, 32, 64, 128)
    model['decode_head'].update(in_channels=32, channels=32)
    for head, channels in zip(model['auxiliary_head'], (16, 16, 32)):
        head.update(in_channels=channels, channels=8)
    return model


def bisenet():
    """mmseg's BiSeNetV2 with an eighth of the width. Its auxiliary heads have strides 4, 8, 16,
    32.
    """
    model = Config.fromfile(_mmseg('_base_/models/bisenetv2.py')).model.to_dict()
    model['backbone'].update(detail_channels=(8, 8, 16), semantic_channels=(4, 8, 16, 16),
                             bga_channels=16)
    model['decode_head'].update(in_channels=16, channels=16)
    for head, channels in zip(model['auxiliary_head'], (4, 8, 16, 16)):
        head.update(in_channels=channels, channels=8)
    for part in (model['backbone'], model['decode_head'], *model['auxiliary_head']):
        part['norm_cfg'] = dict(type='BN')
    return model


def prepared(student, teacher, *entries):
    torch.manual_seed(3)
    model = build(distiller(student, dict(config=dict(default_scope='mmseg', model=teacher),
                                          checkpoint=None), *entries), 'mmseg')
    model.init_weights()
    return model.eval()


def table(student, teacher):
    return table_of(inspect_pair(*(Config(dict(default_scope='mmseg', model=one))
                                   for one in (student, teacher))), width=200)


def test_backbone_whose_list_is_in_another_order():
    """The student STDC has strides 8, 16, 8, 8; the teacher, a dilated ResNet, has 4, 8, 8, 8."""
    model = prepared(stdc(), segmentor(depth=50), HINT)
    match, = model.terms
    inputs = torch.randn(1, 3, 64, 64)
    seen, told = observe(model, inputs)
    levels, others = match.levels(seen, told)
    theirs = model.teacher.model.backbone(inputs)
    assert len(levels) == 3
    assert all(map(torch.equal, others, theirs[1:]))  # no map is interpolated
    own = model.student.backbone(inputs)
    for level, connector, mine in zip(levels, match.connectors, (own[0], own[2], own[3])):
        torch.testing.assert_close(level, connector(mine))
    text = str(match)
    assert "student's [0, 2, 3] with the teacher's [1, 2, 3]" in text
    assert "the student's 1 (stride 16), the teacher's 0 (stride 4)" in text
    assert 'stride 8, 8, 8) with `backbone` of the teacher' in text


def test_auxiliary_head_of_the_partners_stride():
    """The second of BiSeNetV2's four heads has stride 8, as PSPNet's head, and is compared with
    it.
    """
    entry = dict(type='mmkd.DISTLoss', on='aux')
    model = prepared(bisenet(), segmentor(depth=50), entry)
    inputs = torch.randn(1, 3, 64, 64)
    (own, ), (told, ) = model.terms[0].levels(*observe(model, inputs))
    head = model.student.auxiliary_head[1]
    torch.testing.assert_close(own, head(model.student.extract_feat(inputs)))
    network = model.teacher.model
    assert torch.equal(told, network.auxiliary_head(network.extract_feat(inputs)))
    assert model.terms[0].name == 'loss_aux_dist'
    assert model.terms[0].student_point.criteria == ('auxiliary_head.1.loss_decode', )


def test_first_auxiliary_heads_are_compared_if_counts_are_equal():
    """The first heads are compared. If only the teacher has several, the stride decides."""
    entry = dict(type='mmkd.KDLoss', on='aux')
    match, = prepared(bisenet(), bisenet(), entry).terms
    assert (match.student_point.paths, match.teacher_point.paths) == (
        ('auxiliary_head.0', ), ('auxiliary_head.0', ))
    match, = prepared(segmentor(), bisenet(), entry).terms
    assert match.teacher_point.paths == ('auxiliary_head.1', )


def test_heads_for_other_classes_are_not_chosen():
    """STDC's last auxiliary head predicts edges at stride 8. It is never chosen, even if it is
    first.
    """
    entry, student = dict(type='mmkd.KDLoss', on='aux'), stdc()
    match, = prepared(student, segmentor(), entry).terms
    assert match.student_point.paths == ('auxiliary_head.0', )
    student['auxiliary_head'].reverse()
    match, = prepared(student, segmentor(), entry).terms
    assert match.student_point.paths == ('auxiliary_head.2', )


def test_named_head_is_interpolated():
    on = dict(student='aux.0', teacher='aux')
    match, = prepared(bisenet(), segmentor(), dict(type='mmkd.KDLoss', on=on)).terms
    assert match.fitting.shapes == ([(1, 19, 32, 32)], [(1, 19, 16, 16)])
    assert "the teacher's 16x16 interpolated to 32x32" in match.fitting.notes


def test_no_head_of_the_partners_stride_is_refused():
    coarse = segmentor()
    coarse['backbone'].update(strides=(2, 2, 2, 2), dilations=(1, 1, 1, 1))
    coarse['auxiliary_head'].update(in_index=3, in_channels=64)
    with pytest.raises(ValueError, match=(
            r"`aux` of the student has 4 heads of strides 4, 8, 16, 32, `aux` of the teacher 1 head"
            r" of stride 64.*write the heads.*student='aux.0', teacher='aux'\)")):
        prepared(bisenet(), coarse, dict(type='mmkd.KDLoss', on='aux'))


def test_no_level_of_the_partners_stride_is_refused():
    fine = segmentor()
    fine['backbone'].update(strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1), out_indices=(2, 3))
    coarse = segmentor()
    coarse['backbone']['out_indices'] = (0, 1)
    for part in (fine, coarse):
        part.pop('auxiliary_head')
        part['decode_head']['in_index'] = 1
    coarse['decode_head']['in_channels'] = 16
    with pytest.raises(ValueError, match=(
            '`backbone` of the student has 2 levels of strides 16, 32, `backbone` of the teacher 2 '
            'levels of strides 4, 8.*no stride in common; write one level of each side')):
        prepared(fine, coarse, HINT)


def test_table_shows_strides_of_both_sides():
    text = table(stdc(), segmentor(depth=50))
    row, = [part for part in text.split('├') if '\n│ backbone ' in part]
    lines = [line.split('│') for line in row.splitlines()[1:]]
    student, teacher, notes = (' '.join(line[column].strip() for line in lines if len(line) > 4)
                               for column in (2, 3, 4))
    assert 'stride 8, 8, 8' in student
    assert 'stride 8, 8, 8' in teacher
    assert "the student's 1 (stride 16), the teacher's 0 (stride 4)" in notes


def test_module_that_returns_more_in_training_is_refused():
    """In training, DDRNet's backbone returns another map first, which must not be paired."""
    student = Config.fromfile(_mmseg('ddrnet/ddrnet_23-slim_in1k-pre_2xb6-120k_cityscapes-1024x1024'
                                     '.py')).model.to_dict()
    student['backbone'].update(norm_cfg=dict(type='BN'), init_cfg=None, channels=8)
    student['decode_head'].update(norm_cfg=dict(type='BN'), in_channels=32, channels=8)
    student['data_preprocessor'].pop('size')
    model = prepared(student, segmentor(), dict(HINT, on=dict(student='backbone',
                                                              teacher='backbone.layer4')))
    model.student.backbone.train()
    seen, told = observe(model, torch.randn(2, 3, 64, 64))
    with pytest.raises(ValueError, match='2 levels in training, but had 1 when levels were paired'):
        model.terms[0].levels(seen, told)
