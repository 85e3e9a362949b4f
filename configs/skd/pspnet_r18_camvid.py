"""SKD: class probabilities of pixels, and the similarity of the parts of an image.

    python tools/train.py configs/skd/pspnet_r18_camvid.py
"""
_base_ = ['../camvid/dist.py']

model = dict(distill=[
    dict(type='mmkd.KDLoss', on='cls', loss_weight=80.),
    dict(type='mmkd.SKDLoss', on='features', loss_weight=0.5),
])
