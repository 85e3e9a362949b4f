"""MasKD, first stage on CamVid: mask tokens learn on the logits of PSPNet R50, 100 iterations.

Writes work_dirs/pspnet_r18_camvid_tokens/prepared.pth. The optimizer is the authors', the length is
ours.

    python tools/compare.py configs/camvid          # trains the teacher first
    python tools/train.py configs/maskd/pspnet_r18_camvid_tokens.py
"""
_base_ = ['../camvid/teacher.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Prepare',
    teacher=dict(
        config='{{ fileDirname }}/../camvid/teacher.py',
        checkpoint='work_dirs/camvid/teacher/seed0/iter_600.pth'),
    module=dict(type='mmkd.MaskTokens', tokens=8, weighted=False),
    on='cls')
train_cfg = dict(max_iters=100, val_interval=100)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-3))
param_scheduler = [
    dict(type='PolyLR', eta_min=0.0, power=0.9, begin=0, end=100, by_epoch=False)
]
default_hooks = dict(checkpoint=dict(interval=100))
