"""DIST: ResNet-34 teaches ResNet-18 on ImageNet, 100 epochs.

The recipe of the DIST authors, their strategy B1: one DIST term of weight 2 on the logits, tau 1;
Nesterov momentum; no weight decay on biases and norms. docs/classifiers.md compares it line by line. The teacher is mmpretrain's (73.62 top-1); the
authors' has 73.31.

Published: student alone 69.76, KD 71.21, DIST 72.07 top-1. Not reproduced by us: it needs ImageNet.

    tools/dist_train.sh configs/dist/resnet18_in1k.py 8
"""
_base_ = ['../_base_/pairs/resnet18_r34_in1k.py']

optim_wrapper = dict(
    optimizer=dict(nesterov=True), paramwise_cfg=dict(norm_decay_mult=0., bias_decay_mult=0.))
model = dict(distill=[dict(type='mmkd.DISTLoss', on='cls', loss_weight=2.0)])
