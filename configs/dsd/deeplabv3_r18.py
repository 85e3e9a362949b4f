"""DSD: DeepLabV3-R101-d8 teaches DeepLabV3-R18-d8 on Cityscapes, 40k iterations.

The recipe of CIRKD's authors for DSD (scripts/train_kd/train_dsd.sh of their code). The teacher is
mmseg's (80.2 mIoU); theirs had 78.07.

Published: student alone 74.21, distilled 74.81 mIoU. Not reproduced by us: it needs 8 GPUs.

    tools/dist_train.sh configs/dsd/deeplabv3_r18.py 8
"""
_base_ = ['../_base_/pairs/deeplabv3_r18_r101_cirkd.py']

model = dict(distill=[
    # --lambda-psd 1000 and --lambda-csd 10; [s_outputs[-2], s_outputs[-1], s_outputs[0]] are
    # the logits of the auxiliary head, the features after the ASPP and its dropout, the logits.
    dict(type='mmkd.DSDLoss', on='cls', also=['aux', 'features']),
])
