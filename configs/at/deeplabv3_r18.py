"""AT: DeepLabV3-R101-d8 teaches DeepLabV3-R18-d8 on Cityscapes, 40k iterations.

The recipe with which CIRKD's authors compare methods (scripts/train_kd/train_at.sh and train_kd.py
of their code): attention maps of the features before the classifier, beside KD. The teacher is
mmseg's (80.2 mIoU); the authors' had 78.07. Published: student alone 74.21; no figure of this
method is known. Not run by us: it needs 8 GPUs.

    tools/dist_train.sh configs/at/deeplabv3_r18.py 8
"""
_base_ = ['../_base_/pairs/deeplabv3_r18_r101_cirkd.py']

model = dict(distill=[
    dict(type='mmkd.ATLoss', on='features', loss_weight=10000.),  # --lambda-at 10000.
    dict(type='mmkd.KDLoss', on='cls', loss_weight=1.),  # --lambda-kd 1.0, temperature 1
])
