"""BCKD: GFL R101 (44.9 AP, 2x, multi-scale) teaches GFL R50 on COCO, 1x schedule.

The recipe of the authors (Bridging Cross-task Protocol Inconsistency for Distillation in Dense
Object Detection, ICCV 2023), from configs/bckd/bckd_r50_gflv1_r101_fpn_coco_1x.py of their
repository. Published: student alone 40.1, distilled 43.2 AP. Not reproduced by us: it needs 8 GPUs.

    tools/dist_train.sh configs/bckd/gfl_r50.py 8
"""
# SGD 0.01, momentum 0.9, weight decay 1e-4, 12 epochs, 8 GPUs x 2 images, no clip: `optimizer` and
# `data` of their config are mmdet's for GFL R50. So are the student's weights from ImageNet.
# `teacher_ckpt`: gfl_r101_fpn_mstrain_2x_coco_20200629_200126-dd12f847.pth
_base_ = ['../_base_/pairs/gfl_r50_r101.py']

model = dict(distill=[
    # `loss_kd`: NovelKDLoss, weight 1, all anchors. Theirs is 0 on a level without positives.
    dict(type='mmkd.BCKDLoss', on='cls', loss_weight=1.0),
    # `loss_score_kd`: GIoULoss, weight 4. The weights of LD and of the imitation of features
    # are 0 in their config.
    dict(type='mmkd.BCKDBoxLoss', on='boxes', loss_weight=4.0, name='loss_boxes_bckd'),
])
