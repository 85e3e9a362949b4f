"""FreeKD on CamVid: high frequencies of the logits inside masks of prompts. That logits are
compared, and their weights, is our choice.

    python tools/train.py configs/freekd/pspnet_r18_camvid_tokens.py
    python tools/train.py configs/freekd/pspnet_r18_camvid.py
"""
_base_ = ['../camvid/dist.py']

tokens = 'work_dirs/freekd_pspnet_r18_camvid_tokens/prepared.pth'
model = dict(distill=[
    dict(type='mmkd.FreeKDLoss', on='cls', tokens=tokens),
    dict(type='mmkd.FreeKDLoss', on='aux', tokens=tokens, loss_weight=0.4),
])
