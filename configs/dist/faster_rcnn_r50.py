"""DIST: Cascade Mask R-CNN X101-64x4d (45.6 AP, 20e) teaches Faster R-CNN R50 on COCO, 2x schedule.

The recipe of the DIST authors: SGD with lr 0.02 for 8 GPUs x 2 images, 24 epochs, one DIST term
with weight 1 on the class logits of the RoIs that the student sampled, softmax over 81 columns. Of
the teacher's cascade, the first stage is compared. Everything except `model` is mmdet's 2x config.

Published: student alone 38.4, distilled 40.4 AP. Not reproduced by us: it needs 8 GPUs.

    tools/dist_train.sh configs/dist/faster_rcnn_r50.py 8
"""
_base_ = ['../_base_/pairs/faster_rcnn_r50_x101.py']

model = dict(distill=[dict(type='mmkd.DISTLoss', on='cls', stage=0)])
