"""KD: Swin-L, trained on ImageNet-21k first, teaches Swin-T on ImageNet, 300 epochs.

Their code has no file for this comparison: tau 4 and weights of 1 for KD and the cross entropy.

Published by the DIST authors: student alone 81.3, KD 81.5 top-1. Not reproduced by us.

    tools/dist_train.sh configs/kd/swin_tiny_in1k.py 16
"""
_base_ = ['../dist/swin_tiny_in1k.py']

model = dict(distill=[dict(type='mmkd.KDLoss', on='cls', tau=4.0)])
