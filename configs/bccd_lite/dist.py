"""DIST on the class logits of every level, RetinaNet Lite0 from RetinaNet Lite2.

    python tools/compare.py configs/bccd_lite            # trains the teacher first
    python tools/train.py configs/bccd_lite/dist.py      # with the teacher at the path below
"""
_base_ = ['./student.py']

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    teacher=dict(
        config='{{ fileDirname }}/teacher.py',
        checkpoint='work_dirs/bccd_lite/teacher/seed0/epoch_24.pth'),
    distill=[dict(type='mmkd.DISTLoss', on='cls')])
