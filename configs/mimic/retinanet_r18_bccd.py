"""Mimic: the mean squared error of the neck's levels, after a 1x1 convolution.

    python tools/train.py configs/mimic/retinanet_r18_bccd.py   # the teacher as in configs/bccd
"""
_base_ = ['../bccd/dist.py']

model = dict(distill=[dict(type='mmkd.MSELoss', on='neck', connector='conv')])
