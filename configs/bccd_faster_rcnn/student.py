"""The student alone: Faster R-CNN R18-FPN on BCCD, 12 epochs from scratch.

    python tools/train.py configs/bccd_faster_rcnn/student.py
"""
_base_ = ['mmdet::_base_/models/faster-rcnn_r50_fpn.py', './_base_/bccd.py']

proposals = dict(nms_pre=500, max_per_img=200)  # an image has about 20 cells
model = dict(
    # Without pre-trained weights, every stage and its batch norm must be trained.
    backbone=dict(depth=18, frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=64),
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(in_channels=64, fc_out_channels=256, num_classes=3)),
    train_cfg=dict(rpn_proposal=proposals, rcnn=dict(sampler=dict(num=64))),
    test_cfg=dict(rpn=proposals))
