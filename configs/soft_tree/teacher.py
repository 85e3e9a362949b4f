"""The teacher: FCN on a ResNet-18 of half the usual width, with a linear classifier.

    python tools/train.py configs/soft_tree/teacher.py
"""
_base_ = ['./student.py']

model = dict(
    backbone=dict(base_channels=32),
    decode_head=dict(in_channels=256, channels=96, num_convs=2))
