"""FBKD: Faster R-CNN R101 (39.4 AP, 1x) teaches Faster R-CNN R50 on COCO, 1x schedule.

The recipe of OpenMMLab's port (mmrazor, configs/distill/mmdet/fbkd/
fbkd_fpn_faster-rcnn_r101_faster-rcnn_r50_1x_coco.py): nothing inherited, no gradient clip.
Everything except `model` is mmdet's 1x config, which is theirs, too: SGD with lr 0.02 for 8 GPUs x
2 images, 12 epochs.

Published: student alone 37.4, distilled 39.3 AP. Not reproduced by us: it needs 8 GPUs.

    tools/dist_train.sh configs/fbkd/faster_rcnn_r50.py 8
"""
_base_ = ['mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    # The published checkpoint is downloaded before the first batch.
    teacher=dict(config='mmdet::faster_rcnn/faster-rcnn_r101_fpn_1x_coco.py'),
    distill=[
        dict(
            type='mmkd.FBKDLoss',
            on='neck',
            levels=[0, 1, 2, 3],  # neck.fpn_convs.0.conv to neck.fpn_convs.3.conv: not P6
            feature=7e-5,  # mask_l2_weight=7e-5
            channel=4e-3,  # channel_weight=4e-3
            spatial=4e-3,  # spatial_weight=4e-3
            relation=7e-5,  # nonloacl_weight=7e-5
            tau=0.5,  # spatial_T=0.5
            reductions=[4, 4, 2, 2],  # reduction=4 for loss_s0 and loss_s1, else 2
            # maxpool_stride=8, 4, 2 and 2. The port pools once more, by 2: its windows are 16, 8,
            # 4 and 4. Those of the authors' code were 8, 4, 2 and 2.
            pools=[16, 8, 4, 4]),
    ])
