"""KD: DeepLabV3-R101-d8 teaches PSPNet-R18-d8 on Cityscapes, 40k iterations.

The DIST authors' recipe with KD instead of DIST: temperature 1, mean over all pixels, weight 1 on
the logits of the decode head and 0.4 on those of the auxiliary head.

Published: student alone 72.55 mIoU, no figure for KD. Not reproduced by us: it needs 8 GPUs.

    tools/dist_train.sh configs/kd/pspnet_r18.py 8
"""
_base_ = ['../dist/pspnet_r18.py']

model = dict(distill=[
    dict(type='mmkd.KDLoss', on='cls'),
    dict(type='mmkd.KDLoss', on='aux', loss_weight=0.4),
])
