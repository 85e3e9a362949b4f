"""ResNet-50 teaches ResNet-18 on CIFAR-100, trained as mdistiller and RepDistiller train.

240 epochs of batches of 64 on one GPU, SGD 0.05 without Nesterov, momentum 0.9, weight decay 5e-4,
x0.1 after 150, 180 and 210 epochs. Their pairs are others (ResNet-32x4 and ResNet-8x4, ...), which
mmpretrain does not have; the teacher here is the one that it publishes for CIFAR-100 (79.90).
"""
_base_ = ['../resnet18_cifar100.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

train_dataloader = dict(batch_size=64)
train_cfg = dict(max_epochs=240)
optim_wrapper = dict(optimizer=dict(lr=0.05, nesterov=False))
param_scheduler = dict(milestones=[150, 180, 210])
model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    teacher=dict(config='mmpretrain::resnet/resnet50_8xb16_cifar100.py'))
