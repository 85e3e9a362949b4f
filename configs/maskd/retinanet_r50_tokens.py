"""MasKD, first stage: mask tokens learn through RetinaNet R101 on COCO.

Writes work_dirs/retinanet_r50_tokens/prepared.pth, which configs/maskd/retinanet_r50.py takes.

    tools/dist_train.sh configs/maskd/retinanet_r50_tokens.py 8
"""
_base_ = ['./_base_/coco_tokens.py', 'mmdet::_base_/datasets/coco_detection.py']

model = dict(teacher=dict(config='mmdet::retinanet/retinanet_r101_fpn_2x_coco.py'))
train_dataloader = dict(sampler=dict(_delete_=True, type='InfiniteSampler', shuffle=True))
