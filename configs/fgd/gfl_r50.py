"""FGD: GFL R101 (44.7 AP, 2x multi-scale) teaches GFL R50 on COCO, 1x schedule.

The recipe of the FGD authors (configs/distillers/fgd/
fgd_gfl_r101_distill_gfl_r50_fpn_1x_coco.py). Everything except `model` and the clip of gradients is
mmdet's 1x config, which is theirs, too: SGD with lr 0.01 for 8 GPUs x 2 images, 12 epochs.

Published: student alone 40.2, distilled 43.5 AP. Not reproduced by us: it needs 8 GPUs.

    tools/dist_train.sh configs/fgd/gfl_r50.py 8
"""
_base_ = ['../_base_/pairs/gfl_r50_r101.py', './_base_/one_stage.py']

model = dict(
    inherit='neck,head',  # init_student = True: all but the backbone
    distill=[_base_.fgd])

optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))  # optimizer_config; mmdet: none
