"""The student with a linear classifier: Faster R-CNN on a narrow ResNet-18, from scratch.

    python tools/train.py configs/soft_tree_rcnn/student.py
"""
_base_ = ['mmdet::_base_/models/faster-rcnn_r50_fpn.py', '../digits/_base_/digits.py']

norm = dict(type='BN', requires_grad=True)
model = dict(
    backbone=dict(
        depth=18, base_channels=16, frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(
        in_channels=[16, 32, 64, 128], out_channels=48, start_level=1, num_outs=3, norm_cfg=norm),
    rpn_head=dict(
        in_channels=48,
        feat_channels=48,
        anchor_generator=dict(scales=[2, 2.8], ratios=[1.0, 1.8], strides=[8, 16, 32])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=48, featmap_strides=[8, 16, 32], finest_scale=28),
        bbox_head=dict(in_channels=48, fc_out_channels=64, num_classes=10)),
    # Few digits in small images: fewer samples than for COCO.
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=200, max_per_img=100),
        rcnn=dict(sampler=dict(num=32))),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=100)))
