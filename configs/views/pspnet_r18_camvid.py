"""DIST from a teacher that sees the image as it is, while the student's colours are distorted.

    python tools/train.py configs/views/pspnet_r18_camvid.py
"""
_base_ = ['../camvid/dist.py']

train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline[:-1] + [
    dict(type='mmkd.PackViews',
         student=[dict(type='PhotoMetricDistortion')],
         views=dict(weak=[]),
         pack=_base_.train_pipeline[-1])
]))
model = dict(teacher=dict(view='weak'))
