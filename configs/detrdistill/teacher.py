"""The teacher of the DETRDistill authors: Deformable DETR R101 on COCO, 50 epochs, 44.8 AP.

Their weights are on a server that needs an account, and mmdet has none, so it is trained first.

    tools/dist_train.sh configs/detrdistill/teacher.py 16
"""
_base_ = ['mmdet::deformable_detr/deformable-detr_r50_16xb2-50e_coco.py']

model = dict(
    backbone=dict(depth=101, init_cfg=dict(checkpoint='torchvision://resnet101')))
