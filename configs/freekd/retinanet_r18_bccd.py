"""FreeKD on BCCD: high frequencies of the neck inside masks of prompts, and the neck itself;
weights of the authors.

    python tools/train.py configs/freekd/retinanet_r18_bccd_tokens.py
    python tools/train.py configs/freekd/retinanet_r18_bccd.py
"""
_base_ = ['../bccd/dist.py']

model = dict(distill=[
    dict(
        type='mmkd.FreeKDLoss',
        on='neck',
        connector='conv',
        tokens='work_dirs/freekd_retinanet_r18_bccd_tokens/prepared.pth'),
    dict(type='mmkd.MSELoss', on='neck', connector='conv', loss_weight=5.0),
    dict(type='mmkd.BoxImitationLoss', on='reg'),
])
