"""Rocket Launching on digits: a ResNet-34 is trained with the student and shares its bottom.

The student learns the booster's logits by the squared error, as in
configs/rocket/resnet18_cifar100.py; the booster is removed after training.

    python tools/train.py configs/digit_images/rocket.py
"""
_base_ = ['./student.py']
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
             loss_weight=0.03 * 10)  # 0.03 for a sum over the 10 classes
    ])
