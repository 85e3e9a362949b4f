"""ATSS R50 as PGD's authors have it (work_configs/detectors/atss_r50_1x.py), except for one branch.

Their head predicts the overlap of a box with its object; mmdet's has ATSS's own centerness.
"""
_base_ = ['./dense_r50.py']

model = dict(
    type='ATSS',
    bbox_head=dict(
        type='ATSSHead',
        anchor_generator=_base_.anchors.anchor_generator,
        bbox_coder=dict(
            type='DeltaXYWHBBoxCoder', target_means=[.0, .0, .0, .0],
            target_stds=[0.1, 0.1, 0.2, 0.2]),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
        loss_centerness=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0)),
    train_cfg=dict(
        _delete_=True, assigner=_base_.anchors.assigner, allowed_border=-1, pos_weight=-1,
        debug=False))
