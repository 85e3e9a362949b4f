"""FBKD on all levels of the neck, with the values of the authors' code for one-stage detectors.

    python tools/train.py configs/fbkd/retinanet_r18_bccd.py
"""
_base_ = ['../bccd/dist.py']

model = dict(distill=[
    dict(type='mmkd.FBKDLoss', on='neck', feature=4.2e-4, channel=2.4e-2, spatial=2.4e-2,
         relation=4.2e-4, attends_channels=True)])
