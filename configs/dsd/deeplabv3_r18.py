"""DSD: DeepLabV3-R101-d8 teaches DeepLabV3-R18-d8 on Cityscapes, 40k iterations.

The recipe of CIRKD's authors for DSD (scripts/train_kd/train_dsd.sh of their code). The teacher is
mmseg's (80.2 mIoU); theirs had 78.07.

Published: student alone 74.21, distilled 74.81 mIoU. Not reproduced by us: it needs 8 GPUs.

    tools/dist_train.sh configs/dsd/deeplabv3_r18.py 8
"""
_base_ = ['../_base_/deeplabv3_r18.py']  # crops 512x1024, 16 images, lr 0.02, as in train_kd.py
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

optim_wrapper = dict(optimizer=dict(weight_decay=1e-4))  # default of train_kd.py

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    # The published checkpoint is downloaded before the first batch.
    teacher=dict(config='mmseg::deeplabv3/deeplabv3_r101-d8_4xb2-80k_cityscapes-512x1024.py'),
    distill=[
        # --lambda-psd 1000 and --lambda-csd 10; [s_outputs[-2], s_outputs[-1], s_outputs[0]] are
        # the logits of the auxiliary head, the features after the ASPP and its dropout, the logits.
        dict(type='mmkd.DSDLoss', on='cls', also=['aux', 'features']),
    ])
