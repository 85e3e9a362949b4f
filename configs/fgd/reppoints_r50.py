"""FGD: RepPoints X101-DCN (44.2 AP, 2x) teaches RepPoints R50 on COCO, 2x schedule.

The recipe of the FGD authors (configs/distillers/fgd/
fgd_reppoints_rx101_64x4d_distill_reppoints_r50_fpn_2x_coco.py; mmdet has
X101-32x4d alone). Everything except `model` and the clip of gradients is mmdet's 2x config, which
is theirs, too: SGD with lr 0.01 for 8 GPUs x 2 images, 24 epochs.

Published: student alone 38.6, distilled 42.0 AP. Not reproduced by us: it needs 8 GPUs.

    tools/dist_train.sh configs/fgd/reppoints_r50.py 8
"""
_base_ = ['../_base_/pairs/reppoints_r50_x101.py', './_base_/one_stage.py']

model = dict(
    inherit='neck,head',  # init_student = True: all but the backbone
    distill=[_base_.fgd_of_points])

optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))  # optimizer_config; mmdet: none
