"""The pixels of digits, of configs/digits: which of the 10 is it? 128x128, batch 8.

The background, label 10, is ignored.
"""
_base_ = ['../../_base_/segmentation_400_iterations.py']

data_root = 'data/digits/'
metainfo = dict(classes=tuple('0123456789'))
background = 10

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
dataset = dict(
    type='BaseSegDataset',
    data_root=data_root,
    metainfo=metainfo,
    img_suffix='_leftImg8bit.png',
    seg_map_suffix='_gtFine_labelTrainIds.png',
    pipeline=train_pipeline)
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(batch_size=16, dataset=dataset)
test_dataloader = val_dataloader
val_evaluator = dict(ignore_index=background)
test_evaluator = val_evaluator

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=5, norm_type=2))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', T_max=400, end=400, by_epoch=False),
]
