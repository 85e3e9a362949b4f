"""FCOS R50 as PGD's authors have it (work_configs/detectors/fcos_r50_1x.py).

Center sampling, normalized distances, centerness beside the boxes, torchvision's weights.
"""
_base_ = ['./dense_r50.py']

model = dict(
    type='FCOS',
    neck=dict(relu_before_extra_convs=True),
    bbox_head=dict(
        type='FCOSHead',
        strides=[8, 16, 32, 64, 128],
        norm_on_bbox=True,
        centerness_on_reg=True,
        dcn_on_last_conv=False,
        center_sampling=True,
        conv_bias=True,
        loss_bbox=dict(type='IoULoss', loss_weight=1.0),
        loss_centerness=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0)),
    train_cfg=dict(_delete_=True),
    test_cfg=dict(nms=dict(iou_threshold=0.5)))
