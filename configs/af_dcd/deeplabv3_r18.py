"""Af-DCD: DeepLabV3-R101-d8 teaches DeepLabV3-R18-d8 on Cityscapes, 40k iterations.

The recipe of the authors' scripts (``train_ocmgd.py`` and
``train_scripts/cityscape/deeplabv3_r101_deeplabv3_r18_ocmgd.sh``). The teacher is mmseg's (80.2
mIoU); the authors' teacher had 78.07.

Published: student alone 74.21, distilled 77.03 mIoU. Not reproduced by us: it needs 8 GPUs.

    tools/dist_train.sh configs/af_dcd/deeplabv3_r18.py 8
"""
_base_ = ['../_base_/pairs/deeplabv3_r18_r101_cirkd.py']

model = dict(distill=[
    dict(
        type='mmkd.AfDCDLoss',
        on='backbone',
        levels=[-1],      # the second to last output of the authors' models
        lambda_fd=2e-6,   # --lambda-fd
        lambda_ctr=5e-3,  # --lambda-ctr
        masked=0.75,      # --mask-ratio
        # --enhance_projector True. The script also says --rand_mask False; the parser of the
        # authors reads "False" as True, and the mask is random.
        enhanced=True,
        clip_norm=15.0),  # of the layers of the loss alone
    dict(type='mmkd.KDLoss', on='cls', tau=1.0, loss_weight=1.0),  # --lambda-kd
])
