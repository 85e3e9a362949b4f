"""Be Your Own Teacher: a shallow branch without the last stage learns from the whole detector.

The branch is a RetinaNet that shares the backbone and has its own neck and head on strides 8 and
16. It learns from labels (0.7), from the deep logits (0.3, tau 3) and from the deep features
(0.03). The weights are those of OpenMMLab's reimplementation of the paper.

    python tools/train.py configs/byot/retinanet_r18_bccd.py
"""
_base_ = ['../bccd/student.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

branch = dict(
    default_scope='mmdet',
    model=dict(
        type='RetinaNet',
        data_preprocessor=_base_.model.data_preprocessor,
        backbone=_base_.model.backbone,
        neck=dict(
            type='FPN', in_channels=[64, 128, 256, 512], out_channels=128, start_level=1,
            end_level=2, num_outs=2),
        bbox_head=dict(
            type='RetinaHead', num_classes=3, in_channels=128, feat_channels=128, stacked_convs=2,
            anchor_generator=dict(
                type='AnchorGenerator', octave_base_scale=3, scales_per_octave=3,
                ratios=[0.5, 1.0, 2.0], strides=[8, 16]),
            loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25),
            loss_bbox=dict(type='L1Loss')),
        train_cfg=_base_.model.train_cfg,
        test_cfg=_base_.model.test_cfg))
model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    companions=dict(shallow=dict(
        type='mmkd.Partner', config=branch, shared=['backbone'], loss_weight=0.7)),
    distill=[
        dict(type='mmkd.KDLoss', on=dict(student='shallow:cls', teacher='student:cls'),
             tau=3.0, loss_weight=0.3),
        dict(type='mmkd.MSELoss', on=dict(student='shallow:neck', teacher='student:neck'),
             loss_weight=0.03),
    ])
