"""SP on CIFAR-100: similarities between the images of a batch, ResNet-50 to ResNet-18.

The recipe of RepDistiller (`--distill similarity -a 0 -b 3000` of scripts/run_cifar_distill.sh),
which SP's author verified, except for the pair of networks. Published for ResNet-32x4 (79.42) and
ResNet-8x4: student alone 72.50, distilled 72.94. Not run by us.

    python tools/train.py configs/sp/resnet18_cifar100.py
"""
_base_ = ['../_base_/pairs/resnet18_r50_cifar100.py']

model = dict(distill=[
    # feat_s[-2], the last map; cross entropy of weight 1, no KD
    dict(type='mmkd.SPLoss', on='backbone', levels=[-1], grid=None, loss_weight=3000.)])
