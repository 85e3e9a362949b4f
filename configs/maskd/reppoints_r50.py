"""MasKD: RepPoints X101-DCN (44.2 AP, 2x) teaches RepPoints R50 on COCO, 2x schedule.

The recipe of the MasKD authors (Masked Distillation with Receptive Tokens, ICLR 2023): SGD 0.01, 8
GPUs x 2 images, 24 epochs, no clip. Everything except `model` is mmdet's 2x config, which is
theirs, too. The tokens are made by the first stage, configs/maskd/reppoints_r50_tokens.py.

Published: student alone 38.6, distilled 42.5 AP. Not reproduced by us: it needs 8 GPUs.

    tools/dist_train.sh configs/maskd/reppoints_r50_tokens.py 8
    tools/dist_train.sh configs/maskd/reppoints_r50.py 8
"""
_base_ = ['../_base_/pairs/reppoints_r50_x101.py']

# Values of the authors: mmrazor/configs/distill/maskd/reppoints_x101-reppoints-r50_coco.py. Nothing
# is inherited.
model = dict(distill=[
    dict(
        type='mmkd.MasKDLoss',
        on='neck',
        connector='conv',  # their `align_module`
        tokens='work_dirs/reppoints_r50_tokens/prepared.pth',
        warmup=5000,  # their `custom_mask_warmup`
        loss_weight=10.0),
    # Their smooth L1 losses on the offsets of the refined and of the initial points.
    dict(type='mmkd.BoxImitationLoss', on='bbox_head.reppoints_pts_refine_out', beta=0.11,
         loss_weight=0.2, name='loss_refine_box'),
    dict(type='mmkd.BoxImitationLoss', on='bbox_head.reppoints_pts_init_out', beta=0.11,
         loss_weight=0.1, name='loss_init_box'),
])
