"""CKA: centred kernel alignment of the images of a batch, by the deepest level of the backbone.

    python tools/train.py configs/cka/retinanet_r18_bccd.py
"""
_base_ = ['../bccd/dist.py']

model = dict(distill=[dict(type='mmkd.CKALoss', on='backbone', levels=[-1])])
