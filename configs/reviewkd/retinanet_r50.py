"""ReviewKD: RetinaNet R101 (41.0 AP, 3x) teaches RetinaNet R50 on COCO, 180k iterations.

The recipe of the ReviewKD authors' detectron2 code (Detection/configs/ReviewKD-RT50-RT101.yaml).
Their teacher, of detectron2's zoo, has 40.4 AP.

Published: student alone 36.15, distilled 38.48 AP (from memory). Not reproduced by us: it needs 4
GPUs.

    tools/dist_train.sh configs/reviewkd/retinanet_r50.py 4
"""
_base_ = ['mmdet::_base_/models/retinanet_r50_fpn.py', '../_base_/coco_180k.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    # The published checkpoint is downloaded before the first batch.
    teacher=dict(config='mmdet::retinanet/retinanet_r101_fpn_ms-640-800-3x_coco.py'),
    # P3 to P7; mid_channel 256; HCL at full size, 4, 2 and 1; REVIEWKD_LOSS_WEIGHT 1.0
    distill=[
        dict(type='mmkd.ReviewKDLoss', on='neck', mid_channels=256, context=(None, 4, 2, 1),
             loss_weight=1.0)])

optim_wrapper = dict(optimizer=dict(lr=0.005))  # BASE_LR 0.005
