"""FreeKD: RetinaNet R101 (38.9 AP, 2x) teaches RetinaNet R50 on COCO, 2x schedule.

The recipe of the FreeKD authors (Knowledge Distillation via Semantic Frequency Prompt, CVPR 2024):
8 GPUs x 2 images. The prompts are made by the first stage, configs/freekd/retinanet_r50_tokens.py.

Published: student alone 37.4, distilled 39.9 AP. Not reproduced by us: it needs 8 GPUs.

    tools/dist_train.sh configs/freekd/retinanet_r50_tokens.py 8
    tools/dist_train.sh configs/freekd/retinanet_r50.py 8
"""
_base_ = ['../_base_/pairs/retinanet_r50_r101_maskd.py']

# Values of the authors: configs/distill/freekd/freekd_retinanet_r101-retinanet_r50_coco.py.
model = dict(distill=[
    dict(
        type='mmkd.FreeKDLoss',
        on='neck',
        connector='conv',  # their `align_module`, which both losses of the neck share
        tokens='work_dirs/freekd_retinanet_r50_tokens/prepared.pth',
        loss_weight=1.0),
    dict(type='mmkd.MSELoss', on='neck', connector='conv', loss_weight=5.0),
    # Their smooth L1 loss on `retina_reg`.
    dict(type='mmkd.BoxImitationLoss', on='reg'),
])
