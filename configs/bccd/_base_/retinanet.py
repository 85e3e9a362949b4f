"""RetinaNet for BCCD; each model's config sets its backbone and its width."""
_base_ = ['mmdet::_base_/models/retinanet_r50_fpn.py', './bccd.py']

model = dict(bbox_head=dict(
    num_classes=3, stacked_convs=2, anchor_generator=dict(octave_base_scale=3)))
