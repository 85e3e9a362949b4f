"""Strategy B2 of the DIST authors for ImageNet, as their paper has it (from memory).

450 epochs, batch 768 (8 GPUs of 96), RMSProp 0.048, weight decay 1e-5, x0.97 every 2.4 epochs
after 3 epochs of warm-up, label smoothing 0.1, RandAugment of magnitude 9, EMA 0.9999.
"""
_base_ = ['mmpretrain::_base_/datasets/imagenet_bs32_pil_resize.py',
          'mmpretrain::_base_/default_runtime.py']

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=224, backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='RandAugment', policies='timm_increasing', num_policies=2, total_level=10,
         magnitude_level=9, magnitude_std=0.5,
         hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic')),
    dict(type='RandomErasing', erase_prob=0.2, mode='rand', min_area_ratio=0.02,
         max_area_ratio=1 / 3, fill_color=[103.53, 116.28, 123.675],
         fill_std=[57.375, 57.12, 58.395]),
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=96, dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(optimizer=dict(
    type='RMSprop', lr=0.048, alpha=0.9, momentum=0.9, eps=1e-3, weight_decay=1e-5))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, end=3, convert_to_iter_based=True),
    dict(type='ExponentialLR', gamma=0.97**(1 / 2.4), by_epoch=True, begin=3),
]
train_cfg = dict(by_epoch=True, max_epochs=450, val_interval=1)
custom_hooks = [dict(type='EMAHook', momentum=1e-4)]
auto_scale_lr = dict(base_batch_size=768)
val_cfg = dict()
test_cfg = dict()
