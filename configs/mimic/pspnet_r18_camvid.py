"""Mimic: the mean squared error of the backbone's stages, after a 1x1 convolution.

    python tools/train.py configs/mimic/pspnet_r18_camvid.py   # the teacher as in configs/camvid
"""
_base_ = ['../camvid/dist.py']

model = dict(distill=[dict(type='mmkd.MSELoss', on='backbone', connector='conv')])
