"""DIST on the logits of the decode head, and with weight 0.4 on those of the auxiliary head.

    python tools/compare.py configs/camvid          # trains the teacher first
    python tools/train.py configs/camvid/dist.py   # with the teacher at the path below
"""
_base_ = ['./student.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    teacher=dict(
        config='{{ fileDirname }}/teacher.py',
        checkpoint='work_dirs/camvid/teacher/seed0/iter_600.pth'),
    distill=[
        dict(type='mmkd.DISTLoss', on='cls'),
        dict(type='mmkd.DISTLoss', on='aux', loss_weight=0.4),
    ])
