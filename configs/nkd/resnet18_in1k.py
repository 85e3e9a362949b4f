"""NKD: ResNet-34 teaches ResNet-18 on ImageNet, 100 epochs.

The recipe of the NKD authors (configs/distillers/imagenet/res34_distill_res18_img.py of their code,
with `nkd = True`): mmpretrain's models, schedule and teacher are theirs.

Published: student alone 69.90, distilled 71.96 top-1. Not reproduced by us: it needs ImageNet.

    tools/dist_train.sh configs/nkd/resnet18_in1k.py 8
"""
_base_ = ['../_base_/pairs/resnet18_r34_in1k.py']

model = dict(distill=[dict(type='mmkd.NKDLoss', on='cls', gamma=1.5, tau=1.0)])  # gamma, temp
