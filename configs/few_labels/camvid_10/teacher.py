"""The teacher, PSPNet EfficientNet-Lite2, on the labelled images of the student.

    python tools/train.py configs/few_labels/camvid_10/teacher.py
"""
_base_ = ['./student.py']

model = dict(
    backbone=dict(variant='lite2'),
    decode_head=dict(in_channels=352, channels=256),
    auxiliary_head=dict(in_channels=120, channels=128))

train_cfg = dict(max_iters=600, val_interval=150)
param_scheduler = [
    dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=0, end=600, by_epoch=False)
]
default_hooks = dict(checkpoint=dict(interval=600))
