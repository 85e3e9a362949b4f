"""Raccoons (one class, 143 photographs to train, 29 to validate), 320x320, batch 8.

Data, optimizer and evaluation of all models in this folder, in the layout of configs/bccd.
"""
_base_ = ['../../bccd/_base_/bccd.py']

data_root = 'data/raccoon/'
metainfo = dict(classes=('raccoon', ))
scale = (320, 320)

train_pipeline = _base_.train_pipeline
train_pipeline[2].scale = scale
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = scale
train_dataloader = dict(
    dataset=dict(data_root=data_root, metainfo=metainfo, pipeline=train_pipeline))
val_dataloader = dict(
    dataset=dict(data_root=data_root, metainfo=metainfo, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator
