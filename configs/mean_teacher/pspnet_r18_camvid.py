"""Mean teacher: the moving average of the student's weights teaches it by KD, after a warm-up.

    python tools/train.py configs/mean_teacher/pspnet_r18_camvid.py
"""
_base_ = ['../camvid/student.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    teacher=dict(type='mmkd.MeanTeacher', momentum=0.01),
    distill=[dict(type='mmkd.KDLoss', on='cls')],
    hooks=[
        dict(type='mmkd.DistillScheduleHook', schedules=dict(
            loss_cls_kd=dict(type='warmup', end=100, by_epoch=False)))
    ])
