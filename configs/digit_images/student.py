"""The student: a ResNet-18 for small images with an eighth of the usual width, from scratch.

    python tools/train.py configs/digit_images/student.py
"""
_base_ = ['mmpretrain::_base_/models/resnet18_cifar.py', './_base_/digits.py']

model = dict(
    backbone=dict(
        stem_channels=8, base_channels=8, strides=(2, 2, 2, 1), out_indices=(0, 1, 2, 3)),
    head=dict(in_channels=64, num_classes=10))
