"""RKD on CIFAR-100: distances and angles between the images of a batch, ResNet-50 to ResNet-18.

The recipe of RepDistiller (`--distill rkd -a 0 -b 1` of scripts/run_cifar_distill.sh), except for
the pair of networks: RKD's authors train for metric learning, and their code has no classifier.
Published for ResNet-32x4 (79.42) and ResNet-8x4: student alone 72.50, distilled 71.90. Not run by
us.

    python tools/train.py configs/rkd/resnet18_cifar100.py
"""
_base_ = ['../_base_/pairs/resnet18_r50_cifar100.py']

model = dict(distill=[
    # feat_s[-1], the pooled features; w_d=25, w_a=50; cross entropy of weight 1, no KD
    dict(type='mmkd.RKDLoss', on='neck', distance=25., angle=50.)])
