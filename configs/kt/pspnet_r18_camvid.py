"""KT: features before the classifier, logits of labelled regions, and CWD on the logits.

The tuning point is a quarter of the iterations, as the authors'.

    python tools/train.py configs/kt/pspnet_r18_camvid.py   # the teacher as in configs/camvid
"""
_base_ = ['../camvid/dist.py']

model = dict(distill=[
    dict(type='mmkd.KTLoss', on='features', also=['cls'], tuning_point=100),
    dict(type='mmkd.CWDLoss', on='cls', tau=4.0),
    dict(type='mmkd.CWDLoss', on='aux', tau=4.0, loss_weight=0.4),
])
