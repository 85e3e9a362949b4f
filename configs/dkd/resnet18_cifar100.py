"""DKD on CIFAR-100: ResNet-50 teaches ResNet-18.

The recipe of the DKD authors (configs/cifar100/dkd/res32x4_res8x4.yaml of mdistiller), except for
the pair of networks. Published for ResNet-32x4 (79.42) and ResNet-8x4: student alone 72.50,
distilled 76.32. Not run by us.

    python tools/train.py configs/dkd/resnet18_cifar100.py
"""
_base_ = ['../_base_/pairs/resnet18_r50_cifar100.py']

model = dict(
    distill=[dict(type='mmkd.DKDLoss', on='cls', alpha=1.0, beta=8.0, tau=4.0)],  # DKD's defaults
    # WARMUP 20: epoch / 20, counted from 1
    hooks=[dict(type='mmkd.DistillScheduleHook', schedules=dict(
        loss_cls_dkd=dict(type='warmup', end=20)))])
