"""KD: ResNet-34 teaches ResNet-18 on ImageNet, 100 epochs.

The comparison of the DIST authors: tau 4, weight 1 (0.1 * 10), beside the cross entropy of weight
0.9 (1 - 0.1).

Published: student alone 69.76, KD 71.21 top-1. Not reproduced by us: it needs ImageNet.

    tools/dist_train.sh configs/kd/resnet18_in1k.py 8
"""
_base_ = ['../dist/resnet18_in1k.py']

model = dict(distill=[dict(type='mmkd.KDLoss', on='cls', tau=4.0, alpha=0.1, loss_weight=10.0)])
