"""COCO as the detectron2 code of DKD and of ReviewKD trains: 180k iterations of 8 images.

Names of their options are those of Base-Distillation.yaml and of the configs for ResNet-50. The
learning rate is that of Faster R-CNN.
"""
_base_ = ['mmdet::_base_/datasets/coco_detection.py', 'mmdet::_base_/default_runtime.py']

# INPUT.MIN_SIZE_TRAIN (640, 672, ..., 800); MAX_SIZE_TRAIN 1333 is detectron2's default.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='RandomChoiceResize',
        scales=[(1333, size) for size in range(640, 801, 32)],
        keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),  # detectron2's default
    dict(type='PackDetInputs')
]
# IMS_PER_BATCH 8: 4 GPUs, the number of their READMEs, with 2 images each.
train_dataloader = dict(batch_size=2, sampler=dict(type='InfiniteSampler'),
                        dataset=dict(pipeline=train_pipeline))
# BASE_LR 0.01; momentum 0.9 and weight decay 1e-4 are detectron2's defaults.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4))
# MAX_ITER 180000
train_cfg = dict(type='IterBasedTrainLoop', max_iters=180000, val_interval=20000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [
    # detectron2's default: 1000 iterations from 0.001
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    # STEPS 120000, 160000
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=180000, milestones=[120000, 160000],
         gamma=0.1),
]
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=20000))
log_processor = dict(by_epoch=False)
auto_scale_lr = dict(enable=False, base_batch_size=8)
