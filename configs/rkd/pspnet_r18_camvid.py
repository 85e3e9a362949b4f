"""RKD: distances and angles between the images of a batch, by the deepest level of the backbone.

    python tools/train.py configs/rkd/pspnet_r18_camvid.py
"""
_base_ = ['../camvid/dist.py']

model = dict(distill=[dict(type='mmkd.RKDLoss', on='backbone', levels=[-1])])
