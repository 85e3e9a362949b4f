"""KD-DETR: both networks predict for the teacher's queries, and for random ones.

    python tools/compare.py configs/bccd_deformable_detr     # trains the teacher first
    python tools/train.py configs/bccd_deformable_detr/kd_detr.py # with the teacher below
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
        dict(type='mmkd.KDDETRLoss', on='cls', queries='teacher'),
        dict(type='mmkd.KDDETRLoss', on='cls', queries='random'),
    ])
