"""FitNets: a hint from the middle of the backbone, by mean squared error after a 1x1 convolution.

    python tools/train.py configs/fitnets/retinanet_r18_bccd.py
"""
_base_ = ['../bccd/dist.py']

model = dict(distill=[dict(type='mmkd.MSELoss', on='backbone', levels=[-2], connector='conv')])
