"""MasKD, first stage: mask tokens learn through Cascade Mask R-CNN X101-64x4d on COCO.

Writes work_dirs/faster_rcnn_r50_tokens/prepared.pth, which configs/maskd/faster_rcnn_r50.py takes.

    tools/dist_train.sh configs/maskd/faster_rcnn_r50_tokens.py 8
"""
_base_ = ['mmdet::cascade_rcnn/cascade-mask-rcnn_x101-64x4d_fpn_20e_coco.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

# Values of the authors: mmdetection/configs/maskd/cascade_mask_rcnn_x101_64x4d_fpn_20e_coco.py.
model = dict(
    _delete_=True,
    type='mmkd.Prepare',
    # The published checkpoint is downloaded before the first batch.
    teacher=dict(config='mmdet::cascade_rcnn/cascade-mask-rcnn_x101-64x4d_fpn_20e_coco.py'),
    module=dict(type='mmkd.MaskTokens', tokens=6),
    on='neck')
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=2000, val_interval=2000)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='Adam', lr=0.01, weight_decay=0.1))
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=2000, eta_min=1e-6, begin=0, end=2000, by_epoch=False)
]

# Iterations instead of epochs.
train_dataloader = dict(sampler=dict(_delete_=True, type='InfiniteSampler', shuffle=True))
default_hooks = dict(
    logger=dict(interval=50, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=2000))
log_processor = dict(by_epoch=False)
