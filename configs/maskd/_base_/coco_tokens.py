"""MasKD's first stage for the detectors of COCO: 2000 iterations, 8 GPUs x 2 images.

Values of the authors: mmdetection/configs/maskd/*.py of their code. The same by the tool, for any
teacher: tools/train.py TEACHER.py --prepare maskd
"""
_base_ = ['mmdet::_base_/default_runtime.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    type='mmkd.Prepare',
    # The published checkpoint of a config is downloaded before the first batch.
    module=dict(type='mmkd.MaskTokens', tokens=6),
    on='neck')
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2000, val_interval=2000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='Adam', lr=0.01, weight_decay=0.001))
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=2000, eta_min=1e-6, begin=0, end=2000, by_epoch=False)
]
auto_scale_lr = dict(enable=False, base_batch_size=16)
default_hooks = dict(
    logger=dict(interval=50, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=2000))
log_processor = dict(by_epoch=False)
