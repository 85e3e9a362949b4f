"""CWD: GFL R101 (44.7 AP, ms 2x) teaches GFL R50 on COCO, 1x schedule.

The recipe of mmrazor 0.x for the class logits. mmrazor 1.x's config of the same name compares the
neck instead.

Published: student alone 40.2, distilled 41.9 AP (README of mmrazor). Not reproduced by us: it needs
8 GPUs.

    tools/dist_train.sh configs/cwd/gfl_r50.py 8
"""
_base_ = ['../_base_/pairs/gfl_r50_r101.py']  # 12 epochs, SGD lr 0.01, 8 x 2 images, one scale

# tau 1, weight 5, one term for each of five levels
model = dict(distill=[dict(type='mmkd.CWDLoss', on='cls', tau=1.0, loss_weight=5.0)])
