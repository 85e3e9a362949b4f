"""FitNets: DeepLabV3-R101-d8 teaches DeepLabV3-R18-d8 on Cityscapes, 40k iterations.

The recipe with which CIRKD's authors compare methods (scripts/train_kd/train_fitnet.sh and
train_kd.py of their code): features before the classifier, by mean squared error, beside KD. The
teacher is mmseg's (80.2 mIoU); the authors' had 78.07. Published: student alone 74.21; no figure of
this method is known. Not run by us: it needs 8 GPUs.

    tools/dist_train.sh configs/fitnets/deeplabv3_r18.py 8
"""
_base_ = ['../_base_/pairs/deeplabv3_r18_r101_cirkd.py']

model = dict(distill=[
    dict(
        type='mmkd.MSELoss',
        on='features',
        connector='conv',  # losses/fitnet.py, whose convolution has no bias
        loss_weight=10.),  # --lambda-fitnet 10.
    dict(type='mmkd.KDLoss', on='cls', loss_weight=1.),  # --lambda-kd 1.0, temperature 1
])
