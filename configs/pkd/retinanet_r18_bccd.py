"""PKD on the first four levels of the neck, with the authors' weight for one-stage detectors.

    python tools/train.py configs/pkd/retinanet_r18_bccd.py
"""
_base_ = ['../bccd/dist.py']

model = dict(distill=[
    dict(type='mmkd.PKDLoss', on='neck', levels=[0, 1, 2, 3], loss_weight=10.)])
