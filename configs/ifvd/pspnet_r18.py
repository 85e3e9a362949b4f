"""IFVD: PSPNet-R101-d8 teaches PSPNet-R18-d8 on Cityscapes, 40k iterations of 8 crops 512x512.

The recipe of IFVD's authors (options.py and networks/kd_model.py of their code) without the
adversarial part. --random-scale and --random-mirror, which are off by default there, are on
as for SKD. The teacher is mmseg's (79.8 mIoU).

Published: student alone 69.10, distilled 74.54 mIoU (from memory). Not reproduced by us.

    python tools/train.py configs/ifvd/pspnet_r18.py     # the authors: one GPU
"""
_base_ = ['../_base_/pspnet_r18_40k.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    # The published checkpoint is downloaded before the first batch.
    teacher=dict(config='mmseg::pspnet/pspnet_r101-d8_4xb2-80k_cityscapes-512x1024.py'),
    distill=[
        # --lambda-ifv 200; x_feat_after_psp, which ends with the dropout.
        dict(type='mmkd.IFVDLoss', on='features', loss_weight=200.),
        # --lambda-kd 10 of a loss that is divided by the number of classes; ours is not.
        dict(type='mmkd.KDLoss', on='cls', loss_weight=10 / 19),
    ])
