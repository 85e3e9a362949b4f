"""DKD: ResNet-34 teaches ResNet-18 on ImageNet, 100 epochs of batches of 512.

The recipe of the DKD authors (configs/imagenet/r34_r18/dkd.yaml of mdistiller).

Published: distilled 71.70 top-1. Not reproduced by us: it needs ImageNet.

    tools/dist_train.sh configs/dkd/resnet18_in1k.py 8
"""
_base_ = ['../_base_/pairs/resnet18_r34_in1k_512.py']

# BETA 0.5, T 1.0; ALPHA 1.0 and CE_WEIGHT 1.0 are defaults. WARMUP 1 is none: epochs count from 1.
model = dict(distill=[dict(type='mmkd.DKDLoss', on='cls', alpha=1.0, beta=0.5, tau=1.0)])
