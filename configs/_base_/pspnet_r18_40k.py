"""PSPNet R18 on Cityscapes as SKD's authors train it: 40k iterations of 8 crops 512x512.

IFVD's authors start from SKD's code and keep its data, optimizer and schedule.
"""
_base_ = ['./pspnet_r18.py']

crop_size = (512, 512)  # --input-size 512,512
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    # dataset/datasets.py: 0.7 + k / 10, k from 0 to 14
    dict(
        type='RandomChoiceResize',
        scales=[(2048 * k // 10, 1024 * k // 10) for k in range(7, 22)],
        keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),  # --random-mirror
    dict(type='PackSegInputs'),
]
train_dataloader = dict(batch_size=8, dataset=dict(pipeline=train_pipeline))  # --batch-size 8
optim_wrapper = dict(optimizer=dict(lr=0.01, weight_decay=5e-4))  # --lr-g 1e-2, --weight-decay 5e-4
param_scheduler = [  # lr_poly: to 0 with power 0.9, no floor
    dict(type='PolyLR', eta_min=0., power=0.9, begin=0, end=40000, by_epoch=False)
]
auto_scale_lr = dict(base_batch_size=8)
_base_.model.data_preprocessor.size = crop_size
