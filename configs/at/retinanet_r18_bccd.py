"""AT: where the levels of the backbone are active.

    python tools/train.py configs/at/retinanet_r18_bccd.py
"""
_base_ = ['../bccd/dist.py']

model = dict(distill=[dict(type='mmkd.ATLoss', on='backbone', loss_weight=1000.)])
