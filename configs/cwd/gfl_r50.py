"""CWD: GFL R101 (44.7 AP, ms 2x) teaches GFL R50 on COCO, 1x schedule.

The recipe of mmrazor 0.x for the class logits. mmrazor 1.x's config of the same name compares the
neck instead.

Published: student alone 40.2, distilled 41.9 AP (README of mmrazor). Not reproduced by us: it needs
8 GPUs.

    tools/dist_train.sh configs/cwd/gfl_r50.py 8
"""
_base_ = ['mmdet::gfl/gfl_r50_fpn_1x_coco.py']  # 12 epochs, SGD lr 0.01, 8 x 2 images, one scale
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    # The published checkpoint is downloaded before the first batch.
    teacher=dict(config='mmdet::gfl/gfl_r101_fpn_ms-2x_coco.py'),
    # tau 1, weight 5, one term for each of five levels
    distill=[dict(type='mmkd.CWDLoss', on='cls', tau=1.0, loss_weight=5.0)])
