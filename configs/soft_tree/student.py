"""The student with a linear classifier: FCN on a ResNet-18 of a quarter of the usual width.

    python tools/train.py configs/soft_tree/student.py
"""
_base_ = ['mmseg::_base_/models/fcn_r50-d8.py', './_base_/digits.py']

norm_cfg = dict(type='BN', requires_grad=True)  # one process needs no SyncBN
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    pretrained=None,
    backbone=dict(depth=18, base_channels=16, norm_cfg=norm_cfg),
    decode_head=dict(
        in_channels=128, channels=48, num_convs=1, concat_input=False, dropout_ratio=0.,
        num_classes=11, norm_cfg=norm_cfg),
    auxiliary_head=None)
