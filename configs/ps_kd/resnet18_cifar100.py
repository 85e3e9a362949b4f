"""PS-KD on CIFAR-100: the student of the last epoch softens the labels of this one.

The authors' recipe: 300 epochs, SGD 0.1 with Nesterov, x0.1 after 150 and 225, batch 128, weight
decay 5e-4; alpha grows as 0.8 * t / T. Differs: theirs is a PreAct-ResNet-18 (error 24.18 -> 20.82)
and keeps what the student predicted of each image; here the student of the last epoch predicts
again, for the augmented image of this epoch. alpha is 0 in the first epoch.

    python tools/train.py configs/ps_kd/resnet18_cifar100.py
"""
_base_ = ['../_base_/resnet18_cifar100.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

train_cfg = dict(max_epochs=300)
param_scheduler = dict(milestones=[150, 225])
model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    teacher=dict(type='mmkd.EarlierSelf'),
    distill=[dict(type='mmkd.KDLoss', on='cls', alpha=0.8)],
    hooks=[
        dict(type='mmkd.DistillScheduleHook', schedules=dict(
            loss_cls_kd=dict(type='linear', start_factor=1 / 300, end_factor=1.0)))
    ])
