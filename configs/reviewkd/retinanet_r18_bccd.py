"""ReviewKD: the levels of the neck, each fused with the coarser ones of the student.

    python tools/train.py configs/reviewkd/retinanet_r18_bccd.py   # the teacher as in configs/bccd
"""
_base_ = ['../bccd/dist.py']

model = dict(distill=[dict(type='mmkd.ReviewKDLoss', on='neck')])
