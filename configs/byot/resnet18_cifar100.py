"""Be Your Own Teacher on CIFAR-100: classifiers after stages 1 to 3 learn from the deepest one.

Each branch learns from labels (0.7), from the deep logits (0.3, tau 3), and the first two from the
deep features (0.03), for 250 epochs: the weights of OpenMMLab's reimplementation of the paper.
Differs: a branch is a pooling and a linear layer, without the attention and bottleneck of the
paper, and features are compared after the pooling, through a linear layer, by the mean square
instead of the norm of the whole batch.

    python tools/train.py configs/byot/resnet18_cifar100.py
"""
_base_ = ['../_base_/resnet18_cifar100.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

train_cfg = dict(max_epochs=250)
param_scheduler = dict(milestones=[80, 160, 240])
branches = {
    f'stage{stage}': dict(
        type='mmkd.Partner', shared=[f'backbone.layer{stage}'], loss_weight=0.7,
        config=dict(default_scope='mmpretrain', model=dict(
            type='ImageClassifier',
            data_preprocessor=_base_.data_preprocessor,
            backbone=dict(_base_.model.backbone, num_stages=stage, strides=(1, 2, 2)[:stage],
                          dilations=(1, 1, 1)[:stage], out_indices=(stage - 1, )),
            neck=_base_.model.neck,
            head=dict(_base_.model.head, in_channels=32 * 2**stage))))
    for stage in (1, 2, 3)
}
model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    companions=branches,
    distill=[
        *(dict(type='mmkd.KDLoss', tau=3.0, loss_weight=0.3,
               on=dict(student=f'stage{stage}:cls', teacher='student:cls'))
          for stage in (1, 2, 3)),
        *(dict(type='mmkd.MSELoss', loss_weight=0.03,
               on=dict(student=f'stage{stage}:neck', teacher='student:neck'))
          for stage in (1, 2)),
    ])
