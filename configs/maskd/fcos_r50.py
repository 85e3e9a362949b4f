"""MasKD: FCOS R101 (40.8 AP, 2x, multi-scale) teaches FCOS R50 on COCO, 2x schedule, multi-scale.

The recipe of the MasKD authors (Masked Distillation with Receptive Tokens, ICLR 2023): 8 GPUs x 2
images. The tokens are made by the first stage, configs/maskd/fcos_r50_tokens.py.

Published: student alone 38.5, distilled 42.9 AP; the 38.5 are of another student, see the base.
Not reproduced by us: it needs 8 GPUs.

    tools/dist_train.sh configs/maskd/fcos_r50_tokens.py 8
    tools/dist_train.sh configs/maskd/fcos_r50.py 8
"""
_base_ = ['../_base_/pairs/fcos_r50_r101_fgd.py']

# Values of the authors: mmrazor/configs/distill/maskd/fcos_r101-fcos_r50_coco.py. Nothing is
# inherited, and boxes are not compared.
model = dict(distill=[
    dict(
        type='mmkd.MasKDLoss',
        on='neck',
        connector='conv',  # their `align_module`
        tokens='work_dirs/fcos_r50_tokens/prepared.pth',
        warmup=5000,  # their `custom_mask_warmup`
        loss_weight=10.0),
])
