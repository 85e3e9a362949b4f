"""CrossKD: FCOS R101 (40.8 AP, 2x, multi-scale) teaches FCOS R50 on COCO, 2x schedule, multi-scale.

The recipe of the authors (CrossKD, CVPR 2024), from
configs/crosskd/crosskd_r50_fcos_r101-2x-ms_caffe_fpn_gn-head_2x_ms_coco.py of their repository.
Published: student alone 38.5, distilled 41.1, with PKD 41.3 AP. Not reproduced by us: it needs 8
GPUs.

    tools/dist_train.sh configs/crosskd/fcos_r50.py 8
"""
# Student, images of 640 or 800 pixels, SGD 0.01 with twice the rate and no decay for biases, clip
# 35, 24 epochs, 8 GPUs x 2 images: theirs are mmdet's. `teacher_ckpt`:
# fcos_r101_caffe_fpn_gn-head_mstrain_640-800_2x_coco-511424d6.pth
_base_ = ['../_base_/pairs/fcos_r50_r101.py']

# `reused_teacher_head_idx` is 2: the second convolution, with its norm and its ReLU.
model = dict(distill=[
    # `loss_cls_kd`: KDQualityFocalLoss, beta 1, weight 0.4
    dict(type='mmkd.CrossKDLoss', on='cls', divide_by='centerness', loss_weight=0.4,
         through=dict(student='bbox_head.cls_convs.1', teacher='bbox_head.cls_convs.1',
                      rescale='relu')),
    # `loss_reg_kd`: IoULoss, weight 0.75
    dict(type='mmkd.CrossKDBoxLoss', on='boxes', overlap='iou', divide_by='centerness',
         loss_weight=0.75, name='loss_boxes_crosskd',
         through=dict(student='bbox_head.reg_convs.1', teacher='bbox_head.reg_convs.1',
                      rescale='relu')),
])
