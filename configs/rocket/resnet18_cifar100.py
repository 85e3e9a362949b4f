"""Rocket Launching on CIFAR-100: a ResNet-34 is trained with the ResNet-18 and shares its bottom.

The student learns the booster's logits by the squared error: gamma is 0.03 for a sum over classes,
of which MSELoss takes the mean. The lowest convolutions are shared, with batch norms of their own,
as in the authors' code; the booster learns from labels only, and is removed after training. Their
networks are WRN-16 and WRN-40; the schedule here is that of configs/_base_/resnet18_cifar100.py.

    python tools/train.py configs/rocket/resnet18_cifar100.py
"""
_base_ = ['../_base_/resnet18_cifar100.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

booster = dict(
    default_scope='mmpretrain',
    model=dict(_base_.model, data_preprocessor=_base_.data_preprocessor,
               backbone=dict(_base_.model.backbone, depth=34)))
model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    companions=dict(booster=dict(
        # The first stage has 3 blocks in ResNet-34, 2 in ResNet-18.
        type='mmkd.Partner', config=booster, shared=['backbone.conv1', 'backbone.layer1.1'],
        separate_norm=True)),
    distill=[
        dict(type='mmkd.MSELoss', on=dict(student='cls', teacher='booster:cls'),
             loss_weight=0.03 * 100)
    ])
