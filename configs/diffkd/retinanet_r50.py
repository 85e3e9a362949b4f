"""DiffKD (experimental): RetinaNet X101-64x4d teaches RetinaNet R50 on COCO, 2x schedule.

The authors released no code and no config for detectors. Point, widths and weights are our choice:
all levels of the neck, an autoencoder of half the teacher's width, weights as for classification.
Everything except `model` is mmdet's 2x config: SGD with lr 0.01 for 8 GPUs x 2 images, 24 epochs.

Published: student alone 37.4, distilled 40.7 AP (from memory). Not reproduced by us: it needs 8
GPUs.

    tools/dist_train.sh configs/diffkd/retinanet_r50.py 8
"""
_base_ = ['../_base_/pairs/retinanet_r50_x101.py']

model = dict(distill=[dict(type='mmkd.DiffKDLoss', on='neck', latent=128, steps=5)])
