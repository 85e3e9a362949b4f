"""BCKD on BCCD: class scores and boxes of RetinaNet R50 for RetinaNet R18, 12 epochs.

    python tools/train.py configs/bckd/retinanet_r18_bccd.py   # the teacher as in configs/bccd
"""
_base_ = ['../bccd/dist.py']

model = dict(distill=[
    # The weights of the authors, who have none for RetinaNet: those for GFL.
    dict(type='mmkd.BCKDLoss', on='cls'),
    dict(type='mmkd.BCKDBoxLoss', on='boxes', name='loss_boxes_bckd'),
])
