"""DIST: inter-class and intra-class correlation with the teacher, on the logits of every level.

    python tools/compare.py configs/bccd          # trains the teacher first
    python tools/train.py configs/bccd/dist.py   # with the teacher at the path below
"""
_base_ = ['./student.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    teacher=dict(
        config='{{ fileDirname }}/teacher.py',
        checkpoint='work_dirs/bccd/teacher/seed0/epoch_24.pth'),
    distill=[dict(type='mmkd.DISTLoss', on='cls')])
