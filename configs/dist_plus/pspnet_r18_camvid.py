"""DIST+: DIST on the class logits, correlation of the features of the backbone (our reading).

    python tools/compare.py configs/camvid          # trains the teacher first
    python tools/train.py configs/dist_plus/pspnet_r18_camvid.py   # with the teacher at the path below
"""
_base_ = ['../camvid/dist.py']

model = dict(distill=[
    dict(type='mmkd.DISTLoss', on='cls'),
    dict(type='mmkd.DISTLoss', on='aux', loss_weight=0.4),
    dict(type='mmkd.DISTPlusLoss', on='backbone'),
])
