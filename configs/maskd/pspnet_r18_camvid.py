"""MasKD on CamVid: logits are compared inside masks of tokens; weights of the authors.

    python tools/train.py configs/maskd/pspnet_r18_camvid_tokens.py
    python tools/train.py configs/maskd/pspnet_r18_camvid.py
"""
_base_ = ['../camvid/dist.py']

tokens = 'work_dirs/pspnet_r18_camvid_tokens/prepared.pth'
model = dict(distill=[
    dict(type='mmkd.MasKDLoss', on='cls', tokens=tokens, warmup=None, loss_weight=0.5),
    dict(type='mmkd.MasKDLoss', on='aux', tokens=tokens, warmup=None, loss_weight=0.2),
])
