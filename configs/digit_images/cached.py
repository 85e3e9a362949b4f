"""DIST with the teacher's answers kept on disk: the random crops occur again in each epoch.

    python tools/cache_teacher.py configs/digit_images/cached.py
    python tools/train.py configs/digit_images/cached.py
"""
_base_ = ['./dist.py']

train_dataloader = dict(dataset=dict(pipeline=[dict(
    type='mmkd.Replay', variants=2, transforms=_base_.train_pipeline)]))
model = dict(teacher=dict(type='mmkd.CachedTeacher', cache='work_dirs/digit_images/cache'))
