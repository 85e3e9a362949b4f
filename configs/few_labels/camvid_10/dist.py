"""DIST on the labelled images.

    python tools/train.py configs/few_labels/camvid_10/dist.py
"""
_base_ = ['./student.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    teacher=dict(
        config='{{ fileDirname }}/teacher.py',
        checkpoint='work_dirs/camvid_10/teacher/seed0/iter_600.pth'),
    distill=[
        dict(type='mmkd.DISTLoss', on='cls'),
        dict(type='mmkd.DISTLoss', on='aux', loss_weight=0.4),
    ])
