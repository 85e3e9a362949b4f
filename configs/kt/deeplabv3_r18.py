"""KT: DeepLabV3-R101-d8 teaches DeepLabV3-R18-d8 on Cityscapes, 40k iterations.

The recipe of the authors' script (train_KT.sh and train_KT.py of their code). The teacher is
mmseg's (80.2 mIoU); the authors' had 78.07.

Published: student alone 74.21, distilled 77.98 mIoU. Not reproduced by us: it needs 8 GPUs.

    tools/dist_train.sh configs/kt/deeplabv3_r18.py 8
"""
_base_ = ['../_base_/pairs/deeplabv3_r18_r101.py']

model = dict(distill=[
    # x_feat_after_aspp, which ends with the dropout, and the logits; weights of --lambda-mask,
    # --lambda-custom and --lambda-contrastive 1.
    dict(type='mmkd.KTLoss', on='features', also=['cls'], tau=4.0, tuning_point=10000),
    # --lambda-kd 1, --kd-temperature 4: channel by channel, 0.4 on the auxiliary head
    dict(type='mmkd.CWDLoss', on='cls', tau=4.0),
    dict(type='mmkd.CWDLoss', on='aux', tau=4.0, loss_weight=0.4),
])

param_scheduler = [  # adjust_lr: lr (1 - it / 40000)^0.9, without a floor
    dict(type='PolyLR', eta_min=0., power=0.9, begin=0, end=40000, by_epoch=False)
]
train_cfg = dict(val_interval=800)  # --val-per-iters; the best checkpoint is kept
