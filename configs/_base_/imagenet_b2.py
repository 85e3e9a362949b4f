"""Strategy B2 of the DIST authors for ImageNet, from dist_b2.yaml of their code.

450 epochs, batch 768 (8 GPUs of 96), RMSProp 0.048, weight decay 1e-5 except for biases and norms,
x0.97 every 2.4 epochs after 3 epochs of warm-up from 1e-6, label smoothing 0.1, RandAugment of
magnitude 9, random erasing 0.2, EMA 0.9999.

What differs: RMSProp is torch's, theirs adds eps within the root and begins with averages of 1; the
rate falls smoothly, theirs by steps; RandAugment has timm's increasing magnitudes, theirs the plain
ones; the classifier has no dropout, theirs is torchvision's MobileNetV2, which has 0.2.
"""
_base_ = ['mmpretrain::_base_/datasets/imagenet_bs32_pil_resize.py',
          'mmpretrain::_base_/default_runtime.py']

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=224, backend='pillow', interpolation='bilinear'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='RandAugment', policies='timm_increasing', num_policies=2, total_level=10,
         magnitude_level=9, magnitude_std=0.5,
         hparams=dict(pad_val=[104, 116, 124], interpolation='bilinear')),
    dict(type='RandomErasing', erase_prob=0.2, mode='rand', min_area_ratio=0.02,
         max_area_ratio=1 / 3, fill_color=[103.53, 116.28, 123.675],
         fill_std=[57.375, 57.12, 58.395]),
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=96, dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(
    optimizer=dict(
        type='RMSprop', lr=0.048, alpha=0.9, momentum=0.9, eps=1e-3, weight_decay=1e-5),
    paramwise_cfg=dict(norm_decay_mult=0., bias_decay_mult=0.))
param_scheduler = [
    # Constant within an epoch: 1e-6, then a third and two thirds of the rate, then all of it.
    dict(type='LinearLR', start_factor=1e-6 / 0.048, by_epoch=True, end=4),
    dict(type='ExponentialLR', gamma=0.97**(1 / 2.4), by_epoch=True, begin=3),
]
train_cfg = dict(by_epoch=True, max_epochs=450, val_interval=1)
custom_hooks = [dict(type='EMAHook', momentum=1e-4)]
auto_scale_lr = dict(base_batch_size=768)
val_cfg = dict()
test_cfg = dict()
