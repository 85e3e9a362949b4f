"""GFL R50 as PGD's authors have it (work_configs/detectors/gfl_r50_1x.py)."""
_base_ = ['./dense_r50.py']

model = dict(
    type='GFL',
    bbox_head=dict(
        type='GFLHead',
        anchor_generator=_base_.anchors.anchor_generator,
        loss_cls=dict(_delete_=True, type='QualityFocalLoss', use_sigmoid=True, beta=2.0,
                      loss_weight=1.0),
        loss_dfl=dict(type='DistributionFocalLoss', loss_weight=0.25),
        reg_max=16,
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0)),
    train_cfg=dict(
        _delete_=True, assigner=_base_.anchors.assigner, allowed_border=-1, pos_weight=-1,
        debug=False))
