"""DIST; the teacher sees the undistorted image, the student one with distorted colours.

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
