"""The student alone: RetinaNet R18-FPN on BCCD, 12 epochs from scratch.

    python tools/train.py configs/bccd/student.py
"""
_base_ = ['./_base_/retinanet.py']

model = dict(
    # Without pre-trained weights, every stage and its batch norm must be trained.
    backbone=dict(depth=18, frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=128),
    bbox_head=dict(in_channels=128, feat_channels=128))
