"""MGD: Cascade Mask R-CNN X101-32x4d-DCN (47.3 AP) teaches Faster R-CNN R50 on COCO, 2x schedule.

The recipe of the MGD authors (det/configs/distillers/mgd/
cascade_mask_rcnn_rx101_32x4d_distill_faster_rcnn_r50_fpn_2x_coco.py). Everything except `model` and
the clip of gradients is mmdet's 2x config, which is theirs, too: SGD with lr 0.02 for 8 GPUs x 2
images, 24 epochs. Nothing is inherited.

Published: student alone 38.4, distilled 42.1 AP. Not reproduced by us: it needs 8 GPUs.

    tools/dist_train.sh configs/mgd/faster_rcnn_r50.py 8
"""
_base_ = ['../_base_/pairs/faster_rcnn_r50_x101_dcn.py']

model = dict(distill=[
    dict(
        type='mmkd.MGDLoss',
        on='neck',
        levels=[0, 1, 2, 3],  # neck.fpn_convs.0.conv to neck.fpn_convs.3.conv: not P6
        masked=0.45,  # lambda_mgd=0.45
        loss_weight=5e-7),  # alpha_mgd=0.0000005
])

optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))  # optimizer_config; mmdet: none
