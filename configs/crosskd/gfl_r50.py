"""CrossKD: GFL R101 (44.9 AP, 2x, multi-scale) teaches GFL R50 on COCO, 1x schedule.

The recipe of the authors (CrossKD, CVPR 2024), from
configs/crosskd/crosskd_r50_gflv1_r101-2x-ms_fpn_1x_coco.py of their repository. Published: student
alone 40.2, distilled 43.7, with PKD 43.9 AP. Not reproduced by us: it needs 8 GPUs.

    tools/dist_train.sh configs/crosskd/gfl_r50.py 8
"""
# SGD 0.01, momentum 0.9, weight decay 1e-4, 12 epochs, 8 GPUs x 2 images, no clip, and the student:
# theirs are mmdet's for GFL R50. They start `auto_scale_lr` with a base of 16.
# `teacher_ckpt`: gfl_r101_fpn_mstrain_2x_coco_20200629_200126-dd12f847.pth
_base_ = ['../_base_/pairs/gfl_r50_r101.py', './_base_/third_convolution.py']

model = dict(distill=[
    # `loss_cls_kd`: KDQualityFocalLoss, beta 1, weight 1
    dict(type='mmkd.CrossKDLoss', on='cls', loss_weight=1.0, through=_base_.cls_tower),
    # `loss_reg_kd`: KnowledgeDistillationKLDivLoss, sum over the bins, T 1, weight 4
    dict(type='mmkd.CrossKDBinsLoss', on='reg', tau=1.0, loss_weight=4.0,
         name='loss_reg_crosskd', through=_base_.reg_tower),
])
