"""DETRDistill: predictions of each layer, features, and a group for the teacher's queries.

    python tools/compare.py configs/bccd_deformable_detr     # trains the teacher first
    python tools/train.py configs/bccd_deformable_detr/detrdistill.py  # with that teacher
"""
_base_ = ['./kd_detr.py']  # the same student and teacher

model = dict(distill=[
    dict(type='mmkd.DETRDistillLoss', on='cls.all', also=['reg.all']),
    dict(type='mmkd.DETRDistillFeatureLoss', on='neck'),
    dict(type='mmkd.DETRDistillGroupLoss', on='cls.all', also=['reg.all'], queries='teacher'),
])
