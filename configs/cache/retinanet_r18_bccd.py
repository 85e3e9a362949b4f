"""DIST from answers that the teacher gave once: four flips and scales of every image, kept on disk.

    python tools/cache_teacher.py configs/cache/retinanet_r18_bccd.py
    python tools/train.py configs/cache/retinanet_r18_bccd.py

The first command may be left out: what is missing is asked in training, and kept.
"""
_base_ = ['../bccd/dist.py']

train_dataloader = dict(dataset=dict(pipeline=[
    dict(type='mmkd.Replay', transforms=_base_.train_pipeline, variants=4)
]))
model = dict(teacher=dict(type='mmkd.CachedTeacher', cache='work_dirs/cache/bccd_r50'))
