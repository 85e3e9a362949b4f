"""CIRKD: DeepLabV3-R101-d8 teaches PSPNet-R18-d8 on Cityscapes, 40k iterations.

The recipe of the authors' scripts (``train_cirkd.py`` and
``train_scripts/train_cirkd/citys/pspnet_res18.sh``, before their second version). The teacher is
mmseg's (80.2 mIoU); the authors' teacher had 78.07.

Published: student alone 72.55, distilled 74.73 mIoU. Not reproduced by us: it needs 8 GPUs.

    tools/dist_train.sh configs/cirkd/pspnet_r18.py 8
"""
_base_ = ['../_base_/pairs/pspnet_r18_deeplabv3.py']

model = dict(distill=[
    dict(
        type='mmkd.CIRKDLoss',
        on='features',                # before the classifier, after the dropout
        tau=0.1,                      # --contrast-temperature
        lambda_minibatch=1.0,         # --lambda-minibatch-pixel
        lambda_pixel=0.1,             # --lambda-memory-pixel
        lambda_region=0.1,            # --lambda-memory-region
        pixels=20000,                 # --pixel-memory-size, per class
        regions=2000,                 # --region-memory-size, per class
        pixel_keys=4096,              # --pixel-contrast-size
        region_keys=1024,             # --region-contrast-size
        stored=16),                   # pixel_update_freq
    dict(type='mmkd.KDLoss', on='cls', tau=1.0, loss_weight=1.0),  # --lambda-kd
])

# --lr, --momentum, --weight-decay; configs/dist has the weight decay of DIST's authors, 5e-4.
optim_wrapper = dict(optimizer=dict(lr=0.02, momentum=0.9, weight_decay=1e-4))
# lr · (1 - it / 40000)^0.9, without a floor.
param_scheduler = [
    dict(type='PolyLR', eta_min=0., power=0.9, begin=0, end=40000, by_epoch=False)
]
# --val-per-iters; the best checkpoint is kept.
train_cfg = dict(val_interval=800)
