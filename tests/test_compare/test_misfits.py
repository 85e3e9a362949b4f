"""Messages for points that cannot be compared name the difference and a step that helps."""
import re

import pytest
from conftest import build, distiller, retinanet, two_stage

from mmkd.compare.misfits import columns_differ, differing_settings, shapes_differ
from mmkd.points import Point

MSE = dict(type='mmkd.MSELoss')


def refusal(own, other, student, teacher):
    entry = dict(config=dict(default_scope='mmdet', model=other), checkpoint=None)
    model = build(distiller(own, entry, dict(MSE, on=dict(student=student, teacher=teacher))))
    with pytest.raises(ValueError, match='of the student') as info:
        model.init_weights()
    return str(info.value).partition('. Points of this pair')[0]


def test_objectness_is_not_compared_with_classes():
    """Both models have the same classes, so another teacher with these classes would not help."""
    assert refusal(retinanet(), two_stage(), student='cls', teacher='rpn_cls') == (
        '`cls` of the student has columns for 3 classes, `rpn_cls` of the teacher has 1 column '
        'that represents no class of the data (objects against background, or all classes in one); '
        "only columns with the same meaning can be compared: write on='cls' for the classes of "
        "both, or compare 'neck' or 'backbone'")


def test_one_head_has_a_column_for_the_background():
    def logits(columns):
        return Point('cls', ('head', ), list, num_classes=columns, num_named=3)

    text = columns_differ(logits(3), logits(4), ['a', 'b', 'c'], ['a', 'b', 'c'])
    assert text.startswith(
        '`cls` of the student has columns for 3 classes, `cls` of the teacher has columns for 3 '
        'classes and one for the background; both heads must')
    assert 'teacher with the same classes' not in text


def test_masks_of_rois_differ_in_size():
    """Maps of 28x28 and 7x7, with the same levels, anchors and classes."""
    masks = two_stage('mask-rcnn'), two_stage('mask-rcnn', width=12)
    masks[1]['roi_head']['mask_roi_extractor']['roi_layer']['output_size'] = 7
    masks[1]['roi_head']['mask_head']['upsample_cfg'] = dict(type=None)
    assert refusal(*masks, student='mask', teacher='mask') == (
        '`mask` of the student is 2x3x28x28, `mask` of the teacher is 2x3x7x7: each RoI has a map '
        'of 28x28 and of 7x7; use a teacher whose RoI extractor and head return maps of the '
        "student's size, or compare 'cls' or 'neck'")


@pytest.mark.parametrize(('change', 'mine', 'theirs'), [
    (dict(bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[0., 0., 0., 0.],
                          target_stds=[1., 1., .5, .5])),
     'stds=[1.0, 1.0, 1.0, 1.0]', 'stds=[1.0, 1.0, 0.5, 0.5]'),
    (dict(bbox_coder=dict(type='TBLRBBoxCoder', normalizer=4.)),
     'DeltaXYWHBBoxCoder', 'TBLRBBoxCoder')])
def test_only_differences_of_box_coders_are_shown(change, mine, theirs):
    other = retinanet()
    other['bbox_head'].update(change)
    assert refusal(retinanet(), other, student='reg', teacher='reg') == (
        f'`reg` of the student predicts {mine}, `reg` of the teacher {theirs}; only boxes of the '
        "same coding can be compared; compare 'cls' or 'neck', or use a teacher with the student's "
        'coding')


def test_boxes_and_no_boxes():
    assert refusal(retinanet(), retinanet(width=12), student='reg', teacher='cls').startswith(
        '`reg` of the student predicts boxes, `cls` of the teacher no boxes; ')


@pytest.mark.parametrize(('one', 'other', 'found'), [
    ('A(x=1)', 'A(x=1)', ('nothing of it', 'nothing of it')),
    ('A(x=1, y=[2, 3])', 'A(x=1, y=[2, 4])', ('y=[2, 3]', 'y=[2, 4]')),
    ('A(x=1) from B(s=[(8, 8)], c=2)', 'A(x=1) from B(s=[(4, 8)], c=2)',
     ('s=[(8, 8)]', 's=[(4, 8)]')),
    ('A(x=1) from B(c=2)', 'A(x=5) from B(c=3)', ('x=1, c=2', 'x=5, c=3')),
    ('A(x=1) from B(c=2)', 'D(z=1) from B(c=2)', ('A', 'D')),
    ('A(x=1), 17 bins per side', 'A(x=1)', ('17 bins per side', 'nothing of it')),
    ('offsets by A(x=1), one for all classes', 'offsets by A(x=1), one for each class',
     ('one for all classes', 'one for each class'))])
def test_settings_that_differ(one, other, found):
    assert differing_settings(one, other) == found


LOGITS = Point('cls', ('head', ), list, use_sigmoid=True, num_classes=3, num_named=3)
BOXES = Point('reg', ('head', ), list, coding='A(x=1)')
MAPS = Point('neck', ('neck', ), list, is_map=True)
OTHER = Point('backbone.norm', ('backbone.norm', ), list)
ROIS = Point('mask', ('head', ), list, num_classes=3, asked_at=('extractor', ))


@pytest.mark.parametrize(('point', 'mine', 'theirs', 'cause', 'step'), [
    (LOGITS, [(1, 9, 8, 8)] * 2, [(1, 9, 8, 8), (1, 27, 8, 8)], 'at level 1.*: 3 and 9 anchors',
     'use a teacher with the same number of anchors'),
    (BOXES, [(1, 4, 8, 8)], [(1, 36, 8, 8)], ': 4 and 36 numbers at a position',
     'use a teacher with the same number of anchors'),
    (LOGITS, [(1, 9, 8, 8)], [(1, 9, 4, 4)], ': maps of 8x8 and of 4x4',
     "use a teacher whose levels have the student's strides"),
    (MAPS, [(1, 16, 8, 8)], [(1, 24, 8, 8)], ': 16 and 24 channels', "write `connector='auto'`"),
    (OTHER, [(1, 16, 8)], [(1, 16, 8, 8)], 'the same number of dimensions', 'choose another point'),
    (ROIS, [(5, 3, 28, 28)], [(7, 3, 28, 28)], ': 5 and 7 predictions', "compare 'neck'")])
def test_shapes_that_differ(point, mine, theirs, cause, step):
    text = shapes_differ(point, point, mine, theirs)
    assert re.search(cause, text), text
    assert step in text, text
