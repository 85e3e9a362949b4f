"""DIST on the labelled images.

    python tools/train.py configs/few_labels/bccd_100/dist.py
"""
_base_ = ['./student.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    teacher=dict(
        config='{{ fileDirname }}/teacher.py',
        checkpoint='work_dirs/bccd_100/teacher/seed0/iter_312.pth'),
    distill=[dict(type='mmkd.DISTLoss', on='cls')])
