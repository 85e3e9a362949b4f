"""MasKD, first stage on BCCD: mask tokens learn through RetinaNet R50, 200 iterations.

Writes work_dirs/retinanet_r18_bccd_tokens/prepared.pth. The optimizer is the authors', the length
is ours.

    python tools/compare.py configs/bccd          # trains the teacher first
    python tools/train.py configs/maskd/retinanet_r18_bccd_tokens.py
"""
_base_ = ['../bccd/teacher.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Prepare',
    teacher=dict(
        config='{{ fileDirname }}/../bccd/teacher.py',
        checkpoint='work_dirs/bccd/teacher/seed0/epoch_24.pth'),
    module=dict(type='mmkd.MaskTokens', tokens=6),
    on='neck')
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=200, val_interval=200)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='Adam', lr=0.01, weight_decay=0.001))
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=200, eta_min=1e-6, begin=0, end=200, by_epoch=False)
]

# Iterations instead of epochs.
train_dataloader = dict(sampler=dict(_delete_=True, type='InfiniteSampler', shuffle=True))
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=200))
log_processor = dict(by_epoch=False)
