"""DIST; the teacher sees the undistorted image, the student one with distorted colours.

    python tools/train.py configs/views/retinanet_r18_bccd.py
"""
_base_ = ['../bccd/dist.py']

train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline[:-1] + [
    dict(type='mmkd.PackViews',
         student=[dict(type='PhotoMetricDistortion', brightness_delta=16,
                       contrast_range=(0.8, 1.2), saturation_range=(0.8, 1.2), hue_delta=8)],
         views=dict(weak=[]),
         pack=_base_.train_pipeline[-1])
]))
model = dict(teacher=dict(view='weak'))
