"""DIST with cached outputs of the teacher, for four flips and scales of every image.

    python tools/cache_teacher.py configs/cache/retinanet_r18_bccd.py
    python tools/train.py configs/cache/retinanet_r18_bccd.py

The first command is optional: missing outputs are computed in training and added to the cache.
"""
_base_ = ['../bccd/dist.py']

train_dataloader = dict(dataset=dict(pipeline=[
    dict(type='mmkd.Replay', transforms=_base_.train_pipeline, variants=4)
]))
model = dict(teacher=dict(type='mmkd.CachedTeacher', cache='work_dirs/cache/bccd_r50'))
