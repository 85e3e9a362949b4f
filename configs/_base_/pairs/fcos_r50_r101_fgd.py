"""FCOS R101 teaches FCOS R50, with the student of the authors of FGD and of MasKD.

It has center sampling, normalized distances and the GIoU loss, which the 38.5 AP of the student
alone are without: a part of the published gain is the student's. Images of 640 or 800 pixels, SGD
0.01 with twice the rate and no decay for biases, clip 35, 24 epochs, 8 GPUs x 2 images are mmdet's.
"""
_base_ = ['./fcos_r50_r101.py']

model = dict(student=dict(
    # fcos_center-normbbox-giou_r50_caffe_fpn_gn-head_mstrain_1x_coco.py
    bbox_head=dict(
        norm_on_bbox=True,
        centerness_on_reg=False,
        dcn_on_last_conv=False,
        center_sampling=True,
        conv_bias=True,
        loss_bbox=dict(type='GIoULoss', loss_weight=1.0)),
    test_cfg=dict(nms=dict(iou_threshold=0.6))))

param_scheduler = [
    dict(type='LinearLR', start_factor=1 / 3, by_epoch=False, begin=0, end=500),  # mmdet: constant
    dict(type='MultiStepLR', begin=0, end=24, by_epoch=True, milestones=[16, 22], gamma=0.1)
]
