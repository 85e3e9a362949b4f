"""Boxes: Cascade Mask R-CNN X101-64x4d teaches Faster R-CNN R50 on COCO, 2x schedule.

The box term of MasKD's config, without its term of features: the offsets that the student predicts
for its RoIs follow those of the teacher's first stage.

Published: only with MasKD, 38.4 -> 42.7 AP. Not reproduced by us: it needs 8 GPUs.

    tools/dist_train.sh configs/box/faster_rcnn_r50.py 8
"""
_base_ = ['../dist/faster_rcnn_r50.py']  # the same schedule, student and teacher

model = dict(
    # As MasKD's student: one box for all classes, like a cascade.
    student=dict(roi_head=dict(bbox_head=dict(reg_class_agnostic=True))),
    # mmdet's SmoothL1Loss with its defaults, beta 1 and the mean over RoIs and offsets; weight 1
    distill=[dict(type='mmkd.BoxImitationLoss', on='reg', stage=0, beta=1.0)])
