"""DIST+: RetinaNet X101-64x4d teaches RetinaNet R50 on COCO, 2x schedule.

As configs/dist/retinanet_r50.py. In addition, the features of the five levels of the neck are
compared by their correlation over channels and over positions: our reading of DIST+, whose authors
have no public code.

Published: no figure. Not trained by us: it needs 8 GPUs.

    tools/dist_train.sh configs/dist_plus/retinanet_r50.py 8
"""
_base_ = ['../dist/retinanet_r50.py']

model = dict(distill=[
    dict(type='mmkd.DISTLoss', on='cls'),  # DIST's values
    dict(type='mmkd.DISTPlusLoss', on='neck'),  # weight 1 of both parts: our choice
])
