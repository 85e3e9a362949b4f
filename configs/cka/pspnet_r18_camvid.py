"""CKA: centred kernel alignment of the images of a batch, by the deepest level of the backbone.

    python tools/train.py configs/cka/pspnet_r18_camvid.py
"""
_base_ = ['../camvid/dist.py']

model = dict(distill=[dict(type='mmkd.CKALoss', on='backbone', levels=[-1])])
