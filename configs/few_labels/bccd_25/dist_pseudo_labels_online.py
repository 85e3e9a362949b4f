"""DIST on all images, and pseudo-labels made in training.

    python tools/train.py configs/few_labels/bccd_25/dist_pseudo_labels_online.py
"""
_base_ = ['./dist_all.py']

model = dict(distill=[
    dict(type='mmkd.DISTLoss', on='cls'),
    dict(type='mmkd.PseudoLabels', score_thr=0.5),
])
