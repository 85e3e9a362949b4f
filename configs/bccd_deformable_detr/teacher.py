"""The teacher: the same with R50, 24 epochs from scratch.

    python tools/train.py configs/bccd_deformable_detr/teacher.py
"""
_base_ = ['./student.py']

model = dict(backbone=dict(depth=50), neck=dict(in_channels=[512, 1024, 2048]))
train_cfg = dict(max_epochs=24, val_interval=4)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', T_max=24, end=24, by_epoch=True, convert_to_iter_based=True),
]
