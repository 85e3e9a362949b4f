"""FGD: Cascade Mask R-CNN X101-32x4d-DCN (47.3 AP) teaches Faster R-CNN R50 on COCO, 2x schedule.

The recipe of the FGD authors (configs/distillers/fgd/
fgd_cascade_mask_rcnn_rx101_32x4d_distill_faster_rcnn_r50_fpn_2x_coco.py). Everything except `model`
and the clip of gradients is mmdet's 2x config, which is theirs, too: SGD with lr 0.02 for 8 GPUs x
2 images, 24 epochs. Nothing is inherited.

Published: student alone 38.4, distilled 42.0 AP. Not reproduced by us: it needs 8 GPUs.

    tools/dist_train.sh configs/fgd/faster_rcnn_r50.py 8
"""
_base_ = ['../_base_/pairs/faster_rcnn_r50_x101_dcn.py']

model = dict(distill=[
    dict(
        type='mmkd.FGDLoss',
        on='neck',
        levels=[0, 1, 2, 3],  # neck.fpn_convs.0.conv to neck.fpn_convs.3.conv: not P6
        foreground=5e-5,  # alpha_fgd=0.00005
        background=2.5e-5,  # beta_fgd=0.000025
        attention=5e-5,  # gamma_fgd=0.00005
        relation=5e-7,  # lambda_fgd=0.0000005
        tau=0.5),  # temp=0.5
])

optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))  # optimizer_config; mmdet: none
