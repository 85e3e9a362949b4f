"""IFVD: PSPNet-R101-d8 teaches PSPNet-R18-d8 on Cityscapes, 40k iterations of 8 crops 512x512.

The recipe of IFVD's authors (options.py and networks/kd_model.py of their code) without the
adversarial part. --random-scale and --random-mirror, which are off by default there, are on
as for SKD. The teacher is mmseg's (79.8 mIoU).

Published: student alone 69.10, distilled 74.54 mIoU (from memory). Not reproduced by us.

    python tools/train.py configs/ifvd/pspnet_r18.py     # the authors: one GPU
"""
_base_ = ['../_base_/pairs/pspnet_r18_r101.py']

model = dict(distill=[
    # --lambda-ifv 200; x_feat_after_psp, which ends with the dropout.
    dict(type='mmkd.IFVDLoss', on='features', loss_weight=200.),
    # --lambda-kd 10 of a loss that is divided by the number of classes; ours is not.
    dict(type='mmkd.KDLoss', on='cls', loss_weight=10 / 19),
])
