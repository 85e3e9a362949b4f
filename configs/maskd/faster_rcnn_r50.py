"""MasKD: Cascade Mask R-CNN X101-64x4d (45.6 AP) teaches Faster R-CNN R50 on COCO, 2x schedule.

The recipe of the MasKD authors (Masked Distillation with Receptive Tokens, ICLR 2023): 8 GPUs x 2
images. The tokens are made by the first stage, configs/maskd/faster_rcnn_r50_tokens.py.

Published: student alone 38.4, distilled 42.7 AP. Not reproduced by us: it needs 8 GPUs.

    tools/dist_train.sh configs/maskd/faster_rcnn_r50_tokens.py 8
    tools/dist_train.sh configs/maskd/faster_rcnn_r50.py 8
"""
_base_ = ['../_base_/pairs/faster_rcnn_r50_x101.py']

# Values of the authors: mmrazor/configs/distill/maskd/cascade_mask_rcnn_x101-fpn_x50_coco.py.
model = dict(
    # As the cascade writes boxes.
    student=dict(roi_head=dict(bbox_head=dict(reg_class_agnostic=True))),
    distill=[
        dict(
            type='mmkd.MasKDLoss',
            on='neck',
            connector='conv',  # their `align_module`
            tokens='work_dirs/faster_rcnn_r50_tokens/prepared.pth',
            warmup=5000,  # their `custom_mask_warmup`
            loss_weight=1.0),
        # Their smooth L1 loss on `fc_reg`, of the first stage of the cascade.
        dict(type='mmkd.BoxImitationLoss', on='reg', stage=0),
    ])
