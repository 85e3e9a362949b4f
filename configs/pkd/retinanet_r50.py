"""PKD: RetinaNet X101-64x4d (41.0 AP, 1x) teaches RetinaNet R50 on COCO, 2x schedule.

The recipe of the PKD authors (mmrazor, configs/distill/mmdet/pkd/
pkd_fpn_retina_x101_retina_r50_2x_coco.py): nothing inherited, no gradient clip, no connector.
Everything except `model` is mmdet's 2x config, which is theirs, too: SGD with lr 0.01 for 8 GPUs x
2 images, 24 epochs.

Published: student alone 37.4, distilled 40.8 AP. Not reproduced by us: it needs 8 GPUs.

    tools/dist_train.sh configs/pkd/retinanet_r50.py 8
"""
_base_ = ['../_base_/pairs/retinanet_r50_x101.py']

model = dict(distill=[
    dict(
        type='mmkd.PKDLoss',
        on='neck',  # source='neck'
        levels=[0, 1, 2, 3],  # data_idx of loss_pkd_fpn0 to loss_pkd_fpn3; P7 is left out
        loss_weight=10.),  # loss_weight=10; two-stage detectors have 6
])
