"""The teacher: FCN on a ResNet-18 of twice the width, with a linear classifier.

    python tools/train.py configs/soft_tree/teacher.py
"""
_base_ = ['./student.py']

model = dict(
    backbone=dict(stem_channels=32, base_channels=32),
    decode_head=dict(in_channels=128, channels=96))
