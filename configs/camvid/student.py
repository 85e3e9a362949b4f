"""The student alone: PSPNet R18-d8 on CamVid, 400 iterations from scratch.

    python tools/train.py configs/camvid/student.py
"""
_base_ = ['mmseg::_base_/models/pspnet_r50-d8.py', './_base_/camvid.py']

norm_cfg = dict(type='BN', requires_grad=True)  # one process needs no SyncBN
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    pretrained=None,
    backbone=dict(depth=18, norm_cfg=norm_cfg),
    decode_head=dict(in_channels=512, channels=128, norm_cfg=norm_cfg),
    auxiliary_head=dict(in_channels=256, channels=64, norm_cfg=norm_cfg))
