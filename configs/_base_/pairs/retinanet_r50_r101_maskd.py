"""RetinaNet R101 teaches RetinaNet R50, trained as the authors of MasKD and of FreeKD train it."""
_base_ = ['./retinanet_r50_r101.py']

optim_wrapper = dict(
    optimizer=dict(lr=0.02),  # mmdet: 0.01
    clip_grad=dict(max_norm=35, norm_type=2))  # mmdet: none
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),  # mmdet: 500
    dict(type='MultiStepLR', begin=0, end=24, by_epoch=True, milestones=[16, 22], gamma=0.1)
]
