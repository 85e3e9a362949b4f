"""KD: the linear classifier learns the teacher's class probabilities of the student's RoIs, too.

    python tools/compare.py configs/soft_tree_rcnn            # trains the teacher first
    python tools/train.py configs/soft_tree_rcnn/kd.py   # with the teacher at the path below
"""
_base_ = ['./student.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    teacher=dict(
        config='{{ fileDirname }}/teacher.py',
        checkpoint='work_dirs/soft_tree_rcnn/teacher/seed0/epoch_12.pth'),
    distill=[dict(type='mmkd.KDLoss', on='cls')])
