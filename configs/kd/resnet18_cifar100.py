"""KD on CIFAR-100: soft targets of ResNet-50 replace nine tenths of the labels of ResNet-18.

The recipe of mdistiller (configs/cifar100/kd.yaml of their code), except for the pair of networks.

    python tools/train.py configs/kd/resnet18_cifar100.py
"""
_base_ = ['../_base_/pairs/resnet18_r50_cifar100.py']

# KD.TEMPERATURE 4; CE_WEIGHT 0.1, KD_WEIGHT 0.9
model = dict(distill=[dict(type='mmkd.KDLoss', on='cls', tau=4.0, alpha=0.9)])
