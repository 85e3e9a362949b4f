"""PKD: RepPoints X101-DCN (44.2 AP, 2x) teaches RepPoints R50 on COCO, 2x schedule.

The recipe of the PKD authors (mmrazor, configs/distill/mmdet/pkd/
pkd_fpn_reppoints_x101-dcn_reppoints_r50_2x_coco.py), as configs/pkd/retinanet_r50.py.

Published: student alone 38.6, distilled 42.3 AP. Not reproduced by us: it needs 8 GPUs.

    tools/dist_train.sh configs/pkd/reppoints_r50.py 8
"""
_base_ = ['../_base_/pairs/reppoints_r50_x101.py']

model = dict(distill=[
    dict(type='mmkd.PKDLoss', on='neck', levels=[0, 1, 2, 3], loss_weight=10.)])
