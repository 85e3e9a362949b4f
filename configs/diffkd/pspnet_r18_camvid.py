"""DiffKD (experimental) on the logits, with the weights of classification.

    python tools/train.py configs/diffkd/pspnet_r18_camvid.py
"""
_base_ = ['../camvid/dist.py']

model = dict(distill=[dict(type='mmkd.DiffKDLogitLoss', on='cls')])
