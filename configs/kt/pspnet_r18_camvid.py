"""KT: logits of labelled regions, the last stage of the backbone, and CWD on the logits.

    python tools/train.py configs/kt/pspnet_r18_camvid.py   # the teacher as in configs/camvid
"""
_base_ = ['../camvid/dist.py']

model = dict(distill=[
    dict(type='mmkd.KTLogitLoss', on='cls'),
    dict(type='mmkd.KTFeatureLoss', on='backbone', levels=[-1]),
    dict(type='mmkd.CWDLoss', on='cls', tau=4.0),
])
