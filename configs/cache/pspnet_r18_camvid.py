"""DIST from answers that the teacher gave once: four crops of every image, kept on disk.

    python tools/cache_teacher.py configs/cache/pspnet_r18_camvid.py
    python tools/train.py configs/cache/pspnet_r18_camvid.py

The first command may be left out: what is missing is asked in training, and kept.
"""
_base_ = ['../camvid/dist.py']

train_dataloader = dict(dataset=dict(pipeline=[
    dict(type='mmkd.Replay', transforms=_base_.train_pipeline, variants=4)
]))
model = dict(teacher=dict(type='mmkd.CachedTeacher', cache='work_dirs/cache/camvid_r50'))
