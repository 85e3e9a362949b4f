"""CrossKD: ATSS R101 (41.5 AP, 1x) teaches ATSS R50 on COCO, 1x schedule.

The recipe of the authors (CrossKD, CVPR 2024), from
configs/crosskd/crosskd_r50_atss_r101_fpn_1x_coco.py of their repository. Published: student alone
39.4, distilled 41.8, with PKD 41.8 AP. Not reproduced by us: it needs 8 GPUs.

    tools/dist_train.sh configs/crosskd/atss_r50.py 8 --auto-scale-lr
"""
# SGD 0.01, momentum 0.9, weight decay 1e-4, 12 epochs, no clip, and the student: theirs are mmdet's
# for ATSS R50. They train with 8 images per GPU, and scale the learning rate from a base of 16.
_base_ = ['mmdet::atss/atss_r50_fpn_1x_coco.py', './_base_/third_convolution.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    # `teacher_ckpt`: atss_r101_fpn_1x_20200825-dfcadd6f.pth
    teacher=dict(config='mmdet::atss/atss_r101_fpn_1x_coco.py'),
    distill=[
        # `loss_cls_kd`: KDQualityFocalLoss, beta 1, weight 1
        dict(type='mmkd.CrossKDLoss', on='cls', loss_weight=1.0, through=_base_.cls_tower),
        # `loss_reg_kd`: GIoULoss, weight 1
        dict(type='mmkd.CrossKDBoxLoss', on='boxes', loss_weight=1.0, name='loss_boxes_crosskd',
             through=_base_.reg_tower),
        # `loss_center_kd`: binary cross entropy, weight 1
        dict(type='mmkd.CrossKDCenternessLoss', on='centerness', loss_weight=1.0,
             name='loss_centerness_crosskd', through=_base_.reg_tower),
    ])

train_dataloader = dict(batch_size=8, num_workers=4)  # mmdet: 2
