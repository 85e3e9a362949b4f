"""The teacher, RetinaNet R50-FPN: twice the iterations of the student."""
_base_ = ['./bccd.py']

model = dict(
    backbone=dict(depth=50),
    neck=dict(in_channels=[256, 512, 1024, 2048]))

train_cfg = dict(max_iters=624, val_interval=104)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', T_max=624, end=624, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=624))
