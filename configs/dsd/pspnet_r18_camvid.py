"""DSD: where attention moves from layer to layer, and which classes are alike.

    python tools/train.py configs/dsd/pspnet_r18_camvid.py
"""
_base_ = ['../camvid/dist.py']

model = dict(distill=[
    dict(type='mmkd.DSDLoss', on='cls', also=['aux', 'features']),
])
