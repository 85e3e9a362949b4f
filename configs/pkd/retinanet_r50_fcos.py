"""PKD: FCOS X101-64x4d (42.6 AP, 2x, multi-scale) teaches RetinaNet R50 on COCO, 1x schedule.

The recipe of the PKD authors for a teacher of another kind (mmrazor, configs/distill/mmdet/pkd/
pkd_fpn_fcos_x101_retina_r50_1x_coco.py). Everything except `model` is mmdet's 1x config.

Published: student alone 36.5, distilled 40.3 AP. Not reproduced by us: it needs 8 GPUs.

    tools/dist_train.sh configs/pkd/retinanet_r50_fcos.py 8
"""
_base_ = ['mmdet::retinanet/retinanet_r50_fpn_1x_coco.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    # The teacher's images are normalized with other means; mmkd normalizes them anew.
    teacher=dict(config='mmdet::fcos/fcos_x101-64x4d_fpn_gn-head_ms-640-800-2x_coco.py'),
    distill=[dict(type='mmkd.PKDLoss', on='neck', levels=[0, 1, 2, 3], loss_weight=10.)])
