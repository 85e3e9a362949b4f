"""DIST: inter-class and intra-class correlation with the teacher, on the student's RoIs.

    python tools/compare.py configs/bccd_faster_rcnn          # trains the teacher first
    python tools/train.py configs/bccd_faster_rcnn/dist.py   # with the teacher at the path below
"""
_base_ = ['./student.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    teacher=dict(
        config='{{ fileDirname }}/teacher.py',
        checkpoint='work_dirs/bccd_faster_rcnn/teacher/seed0/epoch_18.pth'),
    distill=[dict(type='mmkd.DISTLoss', on='cls')])
