"""PS-KD: an earlier student softens the labels, with a growing weight.

Training goes by iterations. The earlier student is updated after every pass over the 367 images (46
batches of 8). alpha grows to 0.8.

    python tools/train.py configs/ps_kd/pspnet_r18_camvid.py
"""
_base_ = ['../camvid/student.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    teacher=dict(type='mmkd.EarlierSelf', every=46),
    distill=[dict(type='mmkd.KDLoss', on='cls', alpha=0.8)],
    hooks=[
        dict(type='mmkd.DistillScheduleHook', schedules=dict(
            loss_cls_kd=dict(type='linear', start_factor=0.0, end_factor=1.0, by_epoch=False)))
    ])
