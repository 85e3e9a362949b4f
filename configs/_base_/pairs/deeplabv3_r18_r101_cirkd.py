"""DeepLabV3-R101-d8 teaches DeepLabV3-R18-d8, trained as CIRKD's authors train it.

Their train_kd.py compares AT, FitNets, DSD and others; Af-DCD's authors train with the same values.
Crop 512x1024, 16 images, lr 0.02 and 40k iterations are those of the base config.
"""
_base_ = ['./deeplabv3_r18_r101.py']

# --weight-decay; configs/dist has the weight decay of DIST's authors, 5e-4.
optim_wrapper = dict(optimizer=dict(weight_decay=1e-4))
param_scheduler = [  # adjust_lr: lr (1 - it / 40000)^0.9, without a floor
    dict(type='PolyLR', eta_min=0., power=0.9, begin=0, end=40000, by_epoch=False)
]
train_cfg = dict(val_interval=800)  # --val-per-iters; the best checkpoint is kept
