"""Rocket Launching: a RetinaNet R34 is trained with the R18 and shares its stem and first stage.

The student learns the booster's logits by the squared error (gamma 0.03; the paper sums over the
classes, here 3, and MSELoss takes the mean). The booster learns from labels only, and is removed
after training.

    python tools/train.py configs/rocket/retinanet_r18_bccd.py
"""
_base_ = ['../bccd/student.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

booster = dict(
    default_scope='mmdet',
    model=dict(_base_.model, backbone=dict(_base_.model.backbone, depth=34)))
model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    companions=dict(booster=dict(
        # The first stage has 3 blocks in R34, 2 in R18.
        type='mmkd.Partner', config=booster, shared=['backbone.conv1', 'backbone.layer1.1'])),
    distill=[
        dict(type='mmkd.MSELoss', on=dict(student='cls', teacher='booster:cls'),
             loss_weight=0.03 * 3)
    ])
