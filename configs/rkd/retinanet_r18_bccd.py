"""RKD: distances and angles between the images of a batch, by the deepest level of the backbone.

    python tools/train.py configs/rkd/retinanet_r18_bccd.py
"""
_base_ = ['../bccd/dist.py']

model = dict(distill=[dict(type='mmkd.RKDLoss', on='backbone', levels=[-1])])
