"""CamVid street scenes in Cityscapes' layout (367 to train, 101 to validate), crops 160x160.

Data, optimizer and evaluation of all models in this folder. The data set class is mmseg's
CityscapesDataset, unmodified. 11 of its 19 classes occur, and mIoU is the mean over those. Models
train from scratch, so nothing is downloaded.
"""
_base_ = ['../../_base_/segmentation_400_iterations.py']

data_root = 'data/camvid_cityscapes/'
scale = (320, 240)
crop_size = (160, 160)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=scale, ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
dataset = dict(type='CityscapesDataset', data_root=data_root, img_suffix='_leftImg8bit.jpg')
train_dataloader = dict(dataset=dict(**dataset, pipeline=train_pipeline))
val_dataloader = dict(batch_size=1, dataset=dict(**dataset, pipeline=test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=5e-4),
    clip_grad=None)
param_scheduler = [
    dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=0, end=400, by_epoch=False)
]
