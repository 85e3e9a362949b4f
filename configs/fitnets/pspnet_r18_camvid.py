"""FitNets: the features before the classifier, by mean squared error after a 1x1 convolution.

    python tools/train.py configs/fitnets/pspnet_r18_camvid.py
"""
_base_ = ['../camvid/dist.py']

model = dict(distill=[
    dict(type='mmkd.MSELoss', on='features', connector='conv', loss_weight=10.)])
