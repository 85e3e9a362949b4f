"""DKD: Faster R-CNN R101 (41.8 AP, 3x) teaches Faster R-CNN R50 on COCO, 180k iterations.

The recipe of the DKD authors' detectron2 code (detection/configs/DKD/DKD-R50-R101.yaml of
mdistiller). Their teacher, of detectron2's zoo, has 42.0 AP.

Published: student alone 37.93, distilled 39.25 AP (from memory). Not reproduced by us: it needs 4
GPUs.

    tools/dist_train.sh configs/dkd/faster_rcnn_r50.py 4
"""
_base_ = ['../_base_/pairs/faster_rcnn_r50_r101_180k.py']

# KD.DKD: ALPHA 1.0, BETA 0.25, T 1.0; without warm-up; on the student's sampled proposals
model = dict(distill=[dict(type='mmkd.DKDLoss', on='cls', alpha=1.0, beta=0.25, tau=1.0)])
