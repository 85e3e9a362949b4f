"""PS-KD on digits: the student of the last epoch softens the labels of this one; alpha grows.

    python tools/train.py configs/digit_images/ps_kd.py
"""
_base_ = ['./student.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    teacher=dict(type='mmkd.EarlierSelf'),
    distill=[dict(type='mmkd.KDLoss', on='cls', alpha=0.8)],
    hooks=[
        dict(type='mmkd.DistillScheduleHook', schedules=dict(
            loss_cls_kd=dict(type='linear', start_factor=1 / 12, end_factor=1.0)))
    ])
