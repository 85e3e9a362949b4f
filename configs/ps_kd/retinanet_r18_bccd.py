"""PS-KD: the student of the last epoch softens the labels of this one, with a growing weight.

alpha grows as 0.8 * t / T, t = 1 ... T, and is 0 in the first epoch, which has no earlier one. The
weight is 1/25 of that in configs/bccd/kd.py. With the larger weight, the earlier student, which is
no better than the student, slows training (docs/results/schemes).

    python tools/train.py configs/ps_kd/retinanet_r18_bccd.py
"""
_base_ = ['../bccd/student.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    teacher=dict(type='mmkd.EarlierSelf'),
    distill=[dict(type='mmkd.KDLoss', on='cls', loss_weight=0.2, alpha=0.8)],
    hooks=[
        dict(type='mmkd.DistillScheduleHook', schedules=dict(
            loss_cls_kd=dict(
                type='linear', start_factor=1 / _base_.train_cfg.max_epochs, end_factor=1.0)))
    ])
