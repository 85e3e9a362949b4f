"""MasKD, first stage: mask tokens learn through RetinaNet R101 on COCO, 2000 iterations.

Writes work_dirs/retinanet_r50_tokens/prepared.pth, which configs/maskd/retinanet_r50.py takes. The
same by the tool, for any teacher: tools/train.py TEACHER.py --prepare maskd

    tools/dist_train.sh configs/maskd/retinanet_r50_tokens.py 8
"""
_base_ = ['mmdet::retinanet/retinanet_r101_fpn_2x_coco.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

# Values of the authors: mmdetection/configs/maskd/retinanet_r101_fpn_2x_coco.py of their code.
model = dict(
    _delete_=True,
    type='mmkd.Prepare',
    # The published checkpoint is downloaded before the first batch.
    teacher=dict(config='mmdet::retinanet/retinanet_r101_fpn_2x_coco.py'),
    module=dict(type='mmkd.MaskTokens', tokens=6),
    on='neck')
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=2000, val_interval=2000)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='Adam', lr=0.01, weight_decay=0.001))
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=2000, eta_min=1e-6, begin=0, end=2000, by_epoch=False)
]

# Iterations instead of epochs.
train_dataloader = dict(sampler=dict(_delete_=True, type='InfiniteSampler', shuffle=True))
default_hooks = dict(
    logger=dict(interval=50, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=2000))
log_processor = dict(by_epoch=False)
