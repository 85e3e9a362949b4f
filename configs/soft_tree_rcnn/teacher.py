"""The teacher: Faster R-CNN on a ResNet-18 of half the usual width, with a linear classifier.

    python tools/train.py configs/soft_tree_rcnn/teacher.py
"""
_base_ = ['./student.py']

model = dict(
    backbone=dict(base_channels=32),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64),
    rpn_head=dict(in_channels=64, feat_channels=64),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(in_channels=64, fc_out_channels=128)))
