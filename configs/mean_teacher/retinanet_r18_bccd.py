"""Mean teacher: the moving average of the student's weights teaches it by KD, after a warm-up.

The weight is 1/100 of that in configs/bccd/kd.py. With the larger weight, the untrained average
keeps the student from learning (docs/results/schemes).

    python tools/train.py configs/mean_teacher/retinanet_r18_bccd.py
"""
_base_ = ['../bccd/student.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    teacher=dict(type='mmkd.MeanTeacher', momentum=0.01),
    distill=[dict(type='mmkd.KDLoss', on='cls', loss_weight=0.05)],
    hooks=[
        dict(type='mmkd.DistillScheduleHook', schedules=dict(
            loss_cls_kd=dict(type='warmup', end=3)))
    ])
