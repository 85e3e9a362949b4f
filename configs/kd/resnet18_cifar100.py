"""KD on CIFAR-100: soft targets of ResNet-50 replace nine tenths of the labels of ResNet-18.

Settings of mdistiller: tau 4, 0.1 of the cross entropy and 0.9 of KD; 240 epochs, SGD 0.05 with
Nesterov, x0.1 after 150, 180 and 210, batch 64, weight decay 5e-4. Its pairs are others (ResNet-56
and ResNet-20, ...); the teacher here is the one that mmpretrain publishes for CIFAR-100 (79.90).

    python tools/train.py configs/kd/resnet18_cifar100.py
"""
_base_ = ['../_base_/resnet18_cifar100.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

train_dataloader = dict(batch_size=64)
train_cfg = dict(max_epochs=240)
optim_wrapper = dict(optimizer=dict(lr=0.05))
param_scheduler = dict(milestones=[150, 180, 210])
model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    teacher=dict(config='mmpretrain::resnet/resnet50_8xb16_cifar100.py'),
    distill=[dict(type='mmkd.KDLoss', on='cls', tau=4.0, alpha=0.9)])
