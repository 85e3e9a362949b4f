"""The teacher: PSPNet R50-d8 on CamVid, 600 iterations from scratch.

    python tools/train.py configs/camvid/teacher.py
"""
_base_ = ['./student.py']

model = dict(
    backbone=dict(depth=50),
    decode_head=dict(in_channels=2048, channels=256),
    auxiliary_head=dict(in_channels=1024, channels=128))

train_cfg = dict(max_iters=600, val_interval=150)
param_scheduler = [
    dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=0, end=600, by_epoch=False)
]
default_hooks = dict(checkpoint=dict(interval=600))
