"""MasKD, first stage: mask tokens learn on the logits of DeepLabV3-R101-d8 on Cityscapes.

Writes work_dirs/pspnet_r18_tokens/prepared.pth, which configs/maskd/pspnet_r18.py takes. The
teacher is mmseg's (80.2 mIoU); the authors' had 78.07.

    tools/dist_train.sh configs/maskd/pspnet_r18_tokens.py 8
"""
_base_ = ['../_base_/cityscapes_40k.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

# Values of the authors: segmentation/train_mask_module.py, 8 GPUs x 2 images.
model = dict(
    type='mmkd.Prepare',
    # The published checkpoint is downloaded before the first batch.
    teacher=dict(config='mmseg::deeplabv3/deeplabv3_r101-d8_4xb2-80k_cityscapes-512x1024.py'),
    module=dict(type='mmkd.MaskTokens', tokens=8, weighted=False),
    on='cls')
train_cfg = dict(max_iters=10000, val_interval=10000)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-3))
param_scheduler = [
    dict(type='PolyLR', eta_min=0.0, power=0.9, begin=0, end=10000, by_epoch=False)
]
default_hooks = dict(checkpoint=dict(interval=10000))
