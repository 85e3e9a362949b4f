"""KD on the logits of the decode head, and with weight 0.4 on those of the auxiliary head.

    python tools/compare.py configs/camvid        # trains the teacher first
    python tools/train.py configs/camvid/kd.py   # with the teacher at the path below
"""
_base_ = ['./dist.py']

model = dict(distill=[
    dict(type='mmkd.KDLoss', on='cls'),
    dict(type='mmkd.KDLoss', on='aux', loss_weight=0.4),
])
