"""The teacher of the PGD authors: FCOS R101 on COCO, 36 epochs, several scales, 43.1 AP.

No weights of it are published, so it is trained first.

    tools/dist_train.sh configs/pgd/fcos_r101.py 8
"""
_base_ = ['./_base_/fcos_r50.py', './_base_/coco_3x_ms.py']

model = dict(backbone=dict(
    depth=101, style='caffe', init_cfg=dict(checkpoint='torchvision://resnet101')))
