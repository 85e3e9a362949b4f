"""Deep mutual learning on CIFAR-100: ResNet-18 and ResNet-34 learn together.

The authors' recipe: KL divergence at tau 1 in both directions, 200 epochs, SGD 0.1 with Nesterov,
x0.1 every 60 epochs, batch 64 (schedule from memory). Both see the same augmented image, and take
one step from the same batch, as in their code. Their networks are ResNet-32, WRN-28-10 and others.

    python tools/train.py configs/mutual/resnet18_cifar100.py
"""
_base_ = ['../_base_/resnet18_cifar100.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

train_dataloader = dict(batch_size=64)
param_scheduler = dict(milestones=[60, 120, 180])
partner = dict(
    default_scope='mmpretrain',
    model=dict(_base_.model, data_preprocessor=_base_.data_preprocessor,
               backbone=dict(_base_.model.backbone, depth=34)))
model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    companions=dict(partner=dict(type='mmkd.Partner', config=partner)),
    distill=[dict(type='mmkd.KDLoss', on='cls', between=['student', 'partner'])])
