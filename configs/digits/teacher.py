"""The teacher: RetinaNet on a full ResNet-18, from scratch.

    python tools/train.py configs/digits/teacher.py
"""
_base_ = ['./student.py']

model = dict(
    backbone=dict(base_channels=64),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=96),
    bbox_head=dict(in_channels=96, feat_channels=96, stacked_convs=2))
