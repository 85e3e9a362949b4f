"""The student: RetinaNet on a ResNet-18 with a quarter of the usual width, from scratch.

    python tools/train.py configs/digits/student.py
"""
_base_ = ['mmdet::_base_/models/retinanet_r50_fpn.py', './_base_/digits.py']

norm = dict(type='BN', requires_grad=True)
model = dict(
    data_preprocessor=dict(pad_size_divisor=32),
    backbone=dict(
        depth=18, base_channels=16, frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=48, num_outs=3, norm_cfg=norm),
    bbox_head=dict(
        num_classes=10,
        in_channels=48,
        feat_channels=48,
        stacked_convs=1,
        norm_cfg=norm,  # helps training from scratch in few iterations
        anchor_generator=dict(
            octave_base_scale=2, scales_per_octave=2, ratios=[1.0, 1.8], strides=[8, 16, 32])))
