"""PKD on both levels of the neck.

    python tools/compare.py configs/bccd_deformable_detr     # trains the teacher first
    python tools/train.py configs/bccd_deformable_detr/pkd.py  # with that teacher
"""
_base_ = ['./kd_detr.py']  # the same student and teacher

model = dict(distill=[
    dict(type='mmkd.PKDLoss', on='neck', levels=None, loss_weight=10.),
])
