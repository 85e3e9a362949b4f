"""DIST and pseudo-labels, on all images.

    python tools/train.py configs/few_labels/bccd_25/dist_pseudo_labels.py
"""
_base_ = ['./pseudo_labels.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    teacher=dict(
        config='{{ fileDirname }}/teacher.py',
        checkpoint='work_dirs/bccd_25/teacher/seed0/iter_312.pth'),
    distill=[dict(type='mmkd.DISTLoss', on='cls')])
