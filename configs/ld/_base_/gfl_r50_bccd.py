"""GFL R50-FPN on BCCD, 24 epochs from scratch: the teacher.

    python tools/train.py configs/ld/_base_/gfl_r50_bccd.py --work-dir work_dirs/gfl_r50_bccd
"""
_base_ = ['./gfl_r18_bccd.py']

model = dict(
    backbone=dict(depth=50),
    neck=dict(in_channels=[256, 512, 1024, 2048]))

train_cfg = dict(max_epochs=24, val_interval=4)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', T_max=24, end=24, by_epoch=True, convert_to_iter_based=True),
]
