"""AT: where the features before the classifier are active.

    python tools/train.py configs/at/pspnet_r18_camvid.py
"""
_base_ = ['../camvid/dist.py']

model = dict(distill=[dict(type='mmkd.ATLoss', on='features', loss_weight=10000.)])
