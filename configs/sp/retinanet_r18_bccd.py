"""SP: similarities between the images of a batch, by the deepest level of the backbone.

    python tools/train.py configs/sp/retinanet_r18_bccd.py
"""
_base_ = ['../bccd/dist.py']

model = dict(distill=[dict(type='mmkd.SPLoss', on='backbone', levels=[-1], loss_weight=3000.)])
