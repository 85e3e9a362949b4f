"""The teacher, RetinaNet EfficientNet-Lite2, wider: twice the iterations of the student."""
_base_ = ['./bccd.py']

model = dict(
    backbone=dict(variant='lite2'),
    neck=dict(in_channels=[24, 48, 120, 352], out_channels=160),
    bbox_head=dict(in_channels=160, feat_channels=160, stacked_convs=3))

train_cfg = dict(max_iters=312, val_interval=78)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', T_max=312, end=312, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=312))
