"""DIST on all images, with labels or without.

    python tools/train.py configs/few_labels/bccd_10/dist_all.py
"""
_base_ = ['./dist.py']

model = dict(
    unlabelled=dict(dataloader=dict(dataset=dict(
        _base_.train_dataloader.dataset,
        ann_file='data/few_labels/bccd/unlabelled_10.json'))))
