"""Box imitation: smooth L1 between the box offsets, at the RoIs that the student sampled.

    python tools/compare.py configs/bccd_faster_rcnn          # trains the teacher first
    python tools/train.py configs/box/faster_rcnn_r18_bccd.py   # with the teacher at the path below
"""
_base_ = ['../bccd_faster_rcnn/dist.py']

model = dict(
    # The teacher is a cascade, which writes one box for all classes.
    student=dict(roi_head=dict(bbox_head=dict(reg_class_agnostic=True))),
    distill=[dict(type='mmkd.BoxImitationLoss', on='reg')])
