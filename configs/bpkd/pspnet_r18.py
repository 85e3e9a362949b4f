"""BPKD: PSPNet-R101-d8 teaches PSPNet-R18-d8 on Cityscapes, 80k iterations.

The student, its data and its schedule are mmseg's, as in the configs of BPKD's authors. Their code
of the losses is not public: mmkd/losses/bpkd.py says what is ours.

Published: student alone 74.23, distilled 77.57 mIoU. Not reproduced by us: it needs 4 GPUs.

    tools/dist_train.sh configs/bpkd/pspnet_r18.py 4
"""
_base_ = ['mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    # Their teacher; the published checkpoint is downloaded before the first batch.
    teacher=dict(config='mmseg::pspnet/pspnet_r101-d8_4xb2-80k_cityscapes-512x1024.py'),
    distill=[
        # Edges of 7 pixels, weights 50 (edge) and 20 (body), 2 for each class.
        dict(type='mmkd.BPKDLoss', on='cls'),
    ])
