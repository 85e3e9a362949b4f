"""MasKD on BCCD: the neck is compared inside masks of tokens, boxes by L1; weights of the authors.

The student's masks take part from the second half on. The tokens are made by the first stage.

    python tools/train.py configs/maskd/retinanet_r18_bccd_tokens.py
    python tools/train.py configs/maskd/retinanet_r18_bccd.py
"""
_base_ = ['../bccd/dist.py']

model = dict(distill=[
    dict(
        type='mmkd.MasKDLoss',
        on='neck',
        connector='conv',
        tokens='work_dirs/retinanet_r18_bccd_tokens/prepared.pth',
        warmup=150,
        loss_weight=7.0),
    dict(type='mmkd.BoxImitationLoss', on='reg', beta=0),
])
