"""MasKD, first stage: mask tokens learn through Cascade Mask R-CNN X101-64x4d on COCO.

Writes work_dirs/faster_rcnn_r50_tokens/prepared.pth, which configs/maskd/faster_rcnn_r50.py takes.

    tools/dist_train.sh configs/maskd/faster_rcnn_r50_tokens.py 8
"""
_base_ = ['./_base_/coco_tokens.py', 'mmdet::_base_/datasets/coco_instance.py']

model = dict(teacher=dict(
    config='mmdet::cascade_rcnn/cascade-mask-rcnn_x101-64x4d_fpn_20e_coco.py'))
train_dataloader = dict(sampler=dict(_delete_=True, type='InfiniteSampler', shuffle=True))
optim_wrapper = dict(optimizer=dict(weight_decay=0.1))
