"""DIST: DeepLabV3-R101-d8 teaches DeepLabV3-R18-d8 on Cityscapes, 40k iterations.

The recipe of the DIST authors: one DIST term on the logits of the decode head with weight 1, one on
those of the auxiliary head with 0.4, softmax over the classes, all pixels, logits without
upsampling. docs/recipes.md compares it line by line. The teacher is mmseg's (80.2 mIoU); the
authors' teacher had 78.07.

Published: student alone 74.21, distilled 77.10 mIoU. Not reproduced by us: it needs 8 GPUs.

    tools/dist_train.sh configs/dist/deeplabv3_r18.py 8
"""
_base_ = ['../_base_/pairs/deeplabv3_r18_r101.py']

model = dict(distill=[
    dict(type='mmkd.DISTLoss', on='cls'),
    dict(type='mmkd.DISTLoss', on='aux', loss_weight=0.4),
])
