"""Cityscapes with the settings of DIST's authors: 512x1024 crops, 16 images, 40k iterations.

Used by the segmentors of configs/dist and configs/kd; 8 GPUs x 2 images. docs/recipes.md compares
the authors' values with mmseg's.
"""
_base_ = ['mmseg::_base_/datasets/cityscapes.py', 'mmseg::_base_/default_runtime.py']

crop_size = (512, 1024)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    # mmseg draws any ratio from 0.5 to 2.0; the authors draw one of sixteen.
    dict(
        type='RandomChoiceResize',
        scales=[(2048 * k // 10, 1024 * k // 10) for k in range(5, 21)],
        keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),  # mmseg requires two classes in a crop
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),  # mmseg distorts the colours before this step
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

# mmseg uses lr 0.01 and 8 images.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=5e-4),
    clip_grad=None)
param_scheduler = [
    dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=0, end=40000, by_epoch=False)
]
auto_scale_lr = dict(enable=False, base_batch_size=16)

# The authors validate every 400 iterations and report the best checkpoint.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=40000, val_interval=400)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=4000, save_best='mIoU'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'))
