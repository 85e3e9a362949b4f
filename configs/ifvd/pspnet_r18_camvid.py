"""IFVD: how near each pixel is to the mean of its class, and KD.

    python tools/train.py configs/ifvd/pspnet_r18_camvid.py
"""
_base_ = ['../camvid/dist.py']

model = dict(distill=[
    dict(type='mmkd.IFVDLoss', on='features', loss_weight=200.),
    dict(type='mmkd.KDLoss', on='cls', loss_weight=10 / 19),
])
