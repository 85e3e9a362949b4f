"""MasKD, first stage: mask tokens learn through RepPoints X101-DCN on COCO.

Writes work_dirs/reppoints_r50_tokens/prepared.pth, which configs/maskd/reppoints_r50.py takes.

    tools/dist_train.sh configs/maskd/reppoints_r50_tokens.py 8
"""
_base_ = ['./_base_/coco_tokens.py', 'mmdet::_base_/datasets/coco_detection.py']

model = dict(teacher=dict(
    config='mmdet::reppoints/reppoints-moment_x101-dconv-c3-c5_fpn-gn_head-gn_2x_coco.py'))
train_dataloader = dict(sampler=dict(_delete_=True, type='InfiniteSampler', shuffle=True))
