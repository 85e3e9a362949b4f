"""Mimic: RetinaNet X101-64x4d (41.0 AP, 1x) teaches RetinaNet R50 on COCO, 2x schedule.

The term of features of DIST + mimic (configs/dist_mimic/retinanet_r50.py) without DIST, as a
control: a 1x1 convolution on each of the student's five levels, mean squared error, weight 1.

Published: only with DIST, 37.4 -> 40.1 AP. Not reproduced by us: it needs 8 GPUs.

    tools/dist_train.sh configs/mimic/retinanet_r50.py 8
"""
_base_ = ['../_base_/pairs/retinanet_r50_x101.py']

model = dict(distill=[dict(type='mmkd.MSELoss', on='neck', connector='conv')])
