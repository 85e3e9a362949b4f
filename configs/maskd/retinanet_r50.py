"""MasKD: RetinaNet R101 (38.9 AP, 2x) teaches RetinaNet R50 on COCO, 2x schedule.

The recipe of the MasKD authors (Masked Distillation with Receptive Tokens, ICLR 2023): 8 GPUs x 2
images. The tokens are made by the first stage, configs/maskd/retinanet_r50_tokens.py.

Published: student alone 37.4, distilled 39.9 AP. Not reproduced by us: it needs 8 GPUs.

    tools/dist_train.sh configs/maskd/retinanet_r50_tokens.py 8
    tools/dist_train.sh configs/maskd/retinanet_r50.py 8
"""
_base_ = ['mmdet::retinanet/retinanet_r50_fpn_2x_coco.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

# Values of the authors: mmrazor/configs/distill/maskd/retinanet_r101-retinanet_r50_coco.py.
model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    # The published checkpoint is downloaded before the first batch.
    teacher=dict(config='mmdet::retinanet/retinanet_r101_fpn_2x_coco.py'),
    inherit='neck,head',  # their `init_cfg` of neck and head is the teacher's checkpoint
    distill=[
        dict(
            type='mmkd.MasKDLoss',
            on='neck',
            connector='conv',  # their `align_module`
            tokens='work_dirs/retinanet_r50_tokens/prepared.pth',
            warmup=7000,  # their `custom_mask_warmup`
            loss_weight=7.0),
        # Their L1 loss on `retina_reg`.
        dict(type='mmkd.BoxImitationLoss', on='reg', beta=0),
    ])

optim_wrapper = dict(
    optimizer=dict(lr=0.02),  # mmdet: 0.01
    clip_grad=dict(max_norm=35, norm_type=2))  # mmdet: none
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),  # mmdet: 500
    dict(type='MultiStepLR', begin=0, end=24, by_epoch=True, milestones=[16, 22], gamma=0.1)
]
