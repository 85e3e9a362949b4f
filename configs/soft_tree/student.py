"""The student with a linear classifier: FCN on three stages of a narrow ResNet-18.

    python tools/train.py configs/soft_tree/student.py
"""
_base_ = ['mmseg::_base_/models/fcn_r50-d8.py', './_base_/digits.py']

norm_cfg = dict(type='BN', requires_grad=True)  # one process needs no SyncBN
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    pretrained=None,
    backbone=dict(
        type='ResNet', depth=18, num_stages=3, stem_channels=16, base_channels=16,
        strides=(1, 2, 1), dilations=(1, 1, 2), out_indices=(2, ), norm_cfg=norm_cfg),
    decode_head=dict(
        in_channels=64, in_index=0, channels=48, num_convs=1, concat_input=False, dropout_ratio=0.,
        num_classes=10, ignore_index=_base_.background, norm_cfg=norm_cfg),
    auxiliary_head=None)
