"""Heads of mmdet and mmseg with a soft decision tree are built and trained."""
import copy

import pytest
from conftest import (
    build,
    detector_config,
    distiller,
    save_teacher,
    segmentor,
    segmentor_config,
    two_stage,
)
from support.extensions import train_kill_resume

from mmkd import SoftTree, soft_tree_head


def with_tree(head, **settings):
    return dict(head, type='mmkd.SoftTreeHead', head=head['type'], **settings)


def test_head_of_a_segmentor():
    config = segmentor()
    config['decode_head'] = with_tree(config['decode_head'], tree=dict(depth=3))
    model = build(config, 'mmseg')
    head = model.decode_head
    assert isinstance(head.conv_seg, SoftTree)
    assert head.conv_seg.depth == 3
    model.init_weights()
    assert head.conv_seg.log_beta.std() == 0
    assert head.conv_seg.scores.abs().sum() > 0
    twin = copy.deepcopy(model)
    twin.load_state_dict(model.state_dict(), strict=True)


def test_head_of_a_two_stage_detector():
    config = two_stage()
    box = config['roi_head']['bbox_head']
    config['roi_head']['bbox_head'] = with_tree(box)
    model = build(config)
    model.init_weights()
    classifier = model.roi_head.bbox_head.fc_cls
    assert isinstance(classifier, SoftTree)
    assert (classifier.in_channels, classifier.num_classes) == (32, 4)
    # with mmdet's own option, which does not add the regulariser to the losses
    config['roi_head']['bbox_head'] = dict(
        box, cls_predictor_cfg=dict(type='mmkd.SoftTree', depth=2))
    assert build(config).roi_head.bbox_head.fc_cls.depth == 2


@pytest.mark.parametrize(('change', 'error', 'message'), [
    (dict(head='NoHead'), ValueError, "`head` .* got 'NoHead'; write one, such as FCNHead"),
    (dict(layer='nothing'), ValueError, 'has no classifier nothing'),
    (dict(layer='convs'), TypeError, '`convs` .* must be a linear layer or a 1x1 convolution'),
    (dict(loss_decode=dict(type='mmseg.CrossEntropyLoss', use_sigmoid=True)), ValueError,
     'needs a softmax, but CrossEntropyLoss')])
def test_what_does_not_fit_is_refused(change, error, message):
    config = dict(head='mmseg.FCNHead', in_channels=8, channels=8, num_classes=3, num_convs=1,
                  concat_input=False, loss_decode=dict(type='mmseg.CrossEntropyLoss'))
    with pytest.raises(error, match=message):
        soft_tree_head(**dict(config, **change))


@pytest.mark.slow
def test_segmentor_is_distilled_killed_and_resumed(streets, tmp_path):
    """A tree on pixels. The averages of the regulariser are also resumed."""
    from mmseg.datasets import CityscapesDataset
    student = segmentor()
    student['decode_head'] = with_tree(student['decode_head'], tree=dict(depth=2))
    teacher = save_teacher(tmp_path / 't.pth', segmentor(channels=24),
                           CityscapesDataset.METAINFO['classes'], scope='mmseg')

    def make(folder, **more):
        model = dict(distiller(student, teacher, dict(type='mmkd.KDLoss', on='cls')),
                     hooks=[dict(type='mmkd.ReseedHook')])
        return segmentor_config(streets, model, str(folder), **{
            'train_cfg.max_iters': 6, 'train_cfg.val_interval': 99, **more})

    losses, saved = train_kill_resume(make, student, tmp_path, scope='mmseg')
    assert all(one['decode.loss_tree'] > 0 and one['loss_cls_kd'] > 0 for one in losses)
    assert 0.99 < saved['state_dict']['decode_head.conv_seg.arrivals'][0] < 1.01


@pytest.mark.slow
def test_two_stage_detector_is_distilled_killed_and_resumed(shapes, tmp_path):
    """A tree on RoIs."""
    student = two_stage()
    head = student['roi_head']['bbox_head']
    student['roi_head']['bbox_head'] = with_tree(head, tree=dict(depth=2))
    teacher = save_teacher(tmp_path / 't.pth', two_stage(channels=24))

    def make(folder, **more):
        model = dict(distiller(student, teacher, dict(type='mmkd.KDLoss', on='cls')),
                     hooks=[dict(type='mmkd.ReseedHook')])
        return detector_config(shapes, model, str(folder), **{
            'train_cfg.max_epochs': 3, 'train_cfg.val_interval': 9, **more})

    losses, saved = train_kill_resume(make, student, tmp_path)
    assert all(one['loss_tree'] > 0 and one['loss_cls_kd'] > 0 for one in losses)
    assert 'roi_head.bbox_head.fc_cls.rights' in saved['state_dict']
