"""The teacher: a ResNet-18 for small images with half of the usual width, from scratch.

    python tools/train.py configs/digit_images/teacher.py
"""
_base_ = ['./student.py']

model = dict(
    backbone=dict(stem_channels=32, base_channels=32), head=dict(in_channels=256))
