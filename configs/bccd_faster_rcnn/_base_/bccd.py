"""BCCD as in configs/bccd, but at 256x192, because RoI heads are slow on a CPU."""
_base_ = ['../../bccd/_base_/bccd.py']

scale = (256, 192)
train_pipeline = _base_.train_pipeline
train_pipeline[2].scale = scale
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = scale
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
