"""KD: Cascade Mask R-CNN X101-64x4d (45.6 AP, 20e) teaches Faster R-CNN R50 on COCO, 2x schedule.

The DIST authors' recipe with KD instead of DIST: temperature 1, weight 1, mean over the RoIs that
the student sampled.

Published: student alone 38.4, with KD 39.7 AP (as quoted from the paper). Not reproduced by us: it
needs 8 GPUs.

    tools/dist_train.sh configs/kd/faster_rcnn_r50.py 8
"""
_base_ = ['../dist/faster_rcnn_r50.py']

model = dict(distill=[dict(type='mmkd.KDLoss', on='cls', stage=0)])
