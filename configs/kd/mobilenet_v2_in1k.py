"""KD: a strongly trained ResNet-50 teaches MobileNetV2 on ImageNet, 450 epochs.

Their code has no file for this comparison: tau 4 and weights of 1 for KD and the cross entropy.

Published by the DIST authors: student alone 73.6, KD 71.7 top-1. Not reproduced by us.

    tools/dist_train.sh configs/kd/mobilenet_v2_in1k.py 8
"""
_base_ = ['../dist/mobilenet_v2_in1k.py']

model = dict(distill=[dict(type='mmkd.KDLoss', on='cls', tau=4.0)])
