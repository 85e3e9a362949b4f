"""The student learns from labels, and from the teacher's predictions for the other images.

    python tools/train.py configs/few_labels/camvid_10/pseudo_labels_online.py
"""
_base_ = ['./dist_all.py']

model = dict(distill=[
    dict(type='mmkd.PseudoLabels', score_thr=0.7),
])
