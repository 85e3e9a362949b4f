"""DETRDistill: predictions of each layer, features, and a group for the teacher's queries.

    python tools/compare.py configs/bccd_deformable_detr     # trains the teacher first
    python tools/train.py configs/bccd_deformable_detr/detrdistill.py # with the teacher below
"""
_base_ = ['./student.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    teacher=dict(
        config='{{ fileDirname }}/teacher.py',
        checkpoint='work_dirs/bccd_deformable_detr/teacher/seed0/epoch_24.pth'),
    distill=[
        dict(type='mmkd.DETRDistillLoss', on='cls.all', also=['reg.all']),
        dict(type='mmkd.DETRDistillFeatureLoss', on='neck'),
        dict(type='mmkd.DETRDistillGroupLoss', on='cls.all', also=['reg.all'], queries='teacher'),
    ])
