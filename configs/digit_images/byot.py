"""Be Your Own Teacher on digits: classifiers after stages 1 to 3 learn from the deepest one.

Branches and weights of losses as in configs/byot/resnet18_cifar100.py, narrower. No teacher.

    python tools/train.py configs/digit_images/byot.py
"""
_base_ = ['./student.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

branches = {
    f'stage{stage}': dict(
        type='mmkd.Partner', shared=[f'backbone.layer{stage}'], loss_weight=0.7,
        config=dict(default_scope='mmpretrain', model=dict(
            type='ImageClassifier',
            data_preprocessor=_base_.data_preprocessor,
            backbone=dict(_base_.model.backbone, num_stages=stage, strides=(2, 2, 2)[:stage],
                          dilations=(1, 1, 1)[:stage], out_indices=(stage - 1, )),
            neck=_base_.model.neck,
            head=dict(_base_.model.head, in_channels=4 * 2**stage))))
    for stage in (1, 2, 3)
}
model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    # Its weights are those of student.py; the pooled features of other stages are not returned.
    student=dict(_base_.model, backbone=dict(_base_.model.backbone, out_indices=(3, ))),
    companions=branches,
    distill=[
        *(dict(type='mmkd.KDLoss', tau=3.0, loss_weight=0.3,
               on=dict(student=f'stage{stage}:cls', teacher='student:cls'))
          for stage in (1, 2, 3)),
        *(dict(type='mmkd.MSELoss', loss_weight=0.03,
               on=dict(student=f'stage{stage}:neck', teacher='student:neck'))
          for stage in (1, 2)),
    ])
