"""FitNets: DeepLabV3-R101-d8 teaches DeepLabV3-R18-d8 on Cityscapes, 40k iterations.

The recipe with which CIRKD's authors compare methods (scripts/train_kd/train_fitnet.sh and
train_kd.py of their code): features before the classifier, by mean squared error, beside KD. The
teacher is mmseg's (80.2 mIoU); the authors' had 78.07. Published: student alone 74.21; no figure of
this method is known. Not run by us: it needs 8 GPUs.

    tools/dist_train.sh configs/fitnets/deeplabv3_r18.py 8
"""
_base_ = ['../_base_/deeplabv3_r18.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

# Crop 512x1024, 16 images, lr 0.02 and 40k iterations are those of the base config.
optim_wrapper = dict(optimizer=dict(weight_decay=1e-4))  # --weight-decay
param_scheduler = [  # adjust_lr: to 0 with power 0.9, no floor
    dict(type='PolyLR', eta_min=0., power=0.9, begin=0, end=40000, by_epoch=False)
]

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    # The published checkpoint is downloaded before the first batch.
    teacher=dict(config='mmseg::deeplabv3/deeplabv3_r101-d8_4xb2-80k_cityscapes-512x1024.py'),
    distill=[
        dict(
            type='mmkd.MSELoss',
            on='features',
            connector='conv',  # losses/fitnet.py, whose convolution has no bias
            loss_weight=10.),  # --lambda-fitnet 10.
        dict(type='mmkd.KDLoss', on='cls', loss_weight=1.),  # --lambda-kd 1.0, temperature 1
    ])
