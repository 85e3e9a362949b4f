"""MasKD, first stage: mask tokens learn through FCOS R101 on COCO.

Writes work_dirs/fcos_r50_tokens/prepared.pth, which configs/maskd/fcos_r50.py takes.

    tools/dist_train.sh configs/maskd/fcos_r50_tokens.py 8
"""
_base_ = ['./_base_/coco_tokens.py', 'mmdet::_base_/datasets/coco_detection.py']

model = dict(teacher=dict(
    config='mmdet::fcos/fcos_r101-caffe_fpn_gn-head_ms-640-800-2x_coco.py'))
# Clip and images of 640 or 800 pixels are those of the teacher's config.
optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
train_pipeline = _base_.train_pipeline
train_pipeline[2] = dict(
    type='RandomChoiceResize', scales=[(1333, 640), (1333, 800)], keep_ratio=True)
train_dataloader = dict(
    sampler=dict(_delete_=True, type='InfiniteSampler', shuffle=True),
    dataset=dict(pipeline=train_pipeline))
