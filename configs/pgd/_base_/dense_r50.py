"""What PGD's detectors share: ResNet-50, FPN from P3, anchors of ATSS, tests.

The authors' files are in work_configs/detectors. A config adds the head.
"""
_base_ = ['mmdet::_base_/models/retinanet_r50_fpn.py']

model = dict(
    backbone=dict(norm_cfg=dict(requires_grad=False)),  # mmdet trains weight and bias
    neck=dict(add_extra_convs='on_output'),
    bbox_head=dict(
        _delete_=True,
        num_classes=80,
        in_channels=256,
        stacked_convs=4,
        feat_channels=256,
        loss_cls=dict(
            type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0)),
    test_cfg=dict(nms=dict(type='nms', iou_threshold=0.6)))
anchors = dict(
    anchor_generator=dict(
        type='AnchorGenerator', ratios=[1.0], octave_base_scale=8, scales_per_octave=1,
        strides=[8, 16, 32, 64, 128]),
    assigner=dict(type='ATSSAssigner', topk=9))
