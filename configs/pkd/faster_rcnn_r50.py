"""PKD: Faster R-CNN R101 (39.8 AP, 2x) teaches Faster R-CNN R50 on COCO, 2x schedule.

The recipe of the PKD authors (mmrazor, configs/distill/mmdet/pkd/
pkd_fpn_faster-rcnn_r101_faster-rcnn_r50_2x_coco.py): nothing inherited, no gradient clip, no
connector. Everything except `model` is mmdet's 2x config, which is theirs, too: SGD with lr 0.02
for 8 GPUs x 2 images, 24 epochs.

Published: student alone 38.4, distilled 40.3 AP. Not reproduced by us: it needs 8 GPUs.

    tools/dist_train.sh configs/pkd/faster_rcnn_r50.py 8
"""
_base_ = ['mmdet::faster_rcnn/faster-rcnn_r50_fpn_2x_coco.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    # The published checkpoint is downloaded before the first batch.
    teacher=dict(config='mmdet::faster_rcnn/faster-rcnn_r101_fpn_2x_coco.py'),
    distill=[
        dict(
            type='mmkd.PKDLoss',
            on='neck',  # source='neck'
            levels=[0, 1, 2, 3],  # data_idx of loss_pkd_fpn0 to loss_pkd_fpn3; P6 is left out
            loss_weight=6.),  # loss_weight=6
    ])
