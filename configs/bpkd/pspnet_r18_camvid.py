"""BPKD: pixels at the edges of classes, and the shape of what lies between.

    python tools/train.py configs/bpkd/pspnet_r18_camvid.py
"""
_base_ = ['../camvid/dist.py']

model = dict(distill=[
    dict(type='mmkd.BPKDLoss', on='cls'),
])
