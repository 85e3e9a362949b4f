"""DIST+: DIST on the class logits, correlation of the features of the neck (our reading).

    python tools/compare.py configs/bccd          # trains the teacher first
    python tools/train.py configs/dist_plus/retinanet_r18_bccd.py   # with the teacher at the path below
"""
_base_ = ['../bccd/dist.py']

model = dict(distill=[
    dict(type='mmkd.DISTLoss', on='cls'),
    dict(type='mmkd.DISTPlusLoss', on='neck'),
])
