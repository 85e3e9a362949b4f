"""SKD: PSPNet-R101-d8 teaches PSPNet-R18-d8 on Cityscapes, 40k iterations of 8 crops 512x512.

The recipe of SKD's authors (run_train_val.sh and utils/train_options.py of their code) without the
adversarial part. The teacher is mmseg's (79.8 mIoU); the name of the authors' checkpoint
says 78.3.

Published: student alone 69.10, pixel-wise and pair-wise 71.78 mIoU. Not reproduced by us.

    python tools/train.py configs/skd/pspnet_r18.py     # the authors: one GPU
"""
_base_ = ['../_base_/pairs/pspnet_r18_r101.py']

model = dict(distill=[
    # --lambda-pi 10, of a loss that adds up over the 8 images; ours is their mean.
    dict(type='mmkd.KDLoss', on='cls', loss_weight=80.),
    # --lambda-pa 0.5 of the script; x_feat_after_psp, which ends with the dropout.
    dict(type='mmkd.SKDLoss', on='features', loss_weight=0.5),
])
