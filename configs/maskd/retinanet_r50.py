"""MasKD: RetinaNet R101 (38.9 AP, 2x) teaches RetinaNet R50 on COCO, 2x schedule.

The recipe of the MasKD authors (Masked Distillation with Receptive Tokens, ICLR 2023): 8 GPUs x 2
images. The tokens are made by the first stage, configs/maskd/retinanet_r50_tokens.py.

Published: student alone 37.4, distilled 39.9 AP. Not reproduced by us: it needs 8 GPUs.

    tools/dist_train.sh configs/maskd/retinanet_r50_tokens.py 8
    tools/dist_train.sh configs/maskd/retinanet_r50.py 8
"""
_base_ = ['../_base_/pairs/retinanet_r50_r101_maskd.py']

# Values of the authors: mmrazor/configs/distill/maskd/retinanet_r101-retinanet_r50_coco.py.
model = dict(
    inherit='neck,head',  # their `init_cfg` of neck and head is the teacher's checkpoint
    distill=[
        dict(
            type='mmkd.MasKDLoss',
            on='neck',
            connector='conv',  # their `align_module`
            tokens='work_dirs/retinanet_r50_tokens/prepared.pth',
            warmup=7000,  # their `custom_mask_warmup`
            loss_weight=7.0),
        # Their L1 loss on `retina_reg`.
        dict(type='mmkd.BoxImitationLoss', on='reg', beta=0),
    ])
