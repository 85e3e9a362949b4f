"""DiffKD (experimental) on all levels of the neck, with the weights of classification.

    python tools/train.py configs/diffkd/retinanet_r18_bccd.py
"""
_base_ = ['../bccd/dist.py']

model = dict(distill=[dict(type='mmkd.DiffKDLoss', on='neck')])
