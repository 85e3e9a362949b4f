"""Be Your Own Teacher: classifiers on stages 2 and 3 of the backbone learn from the deepest one.

Each branch learns from labels (0.7), from the deep logits (0.3, tau 3) and from the deep features
(0.03). The weights are those of OpenMMLab's reimplementation of the paper.

    python tools/train.py configs/byot/pspnet_r18_camvid.py
"""
_base_ = ['../camvid/student.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

branches = {
    f'stage{stage}': dict(
        type='mmkd.Partner', shared=['backbone'], loss_weight=0.7,
        config=dict(default_scope='mmseg', model=dict(
            type='EncoderDecoder',
            data_preprocessor=_base_.model.data_preprocessor,
            backbone=_base_.model.backbone,
            decode_head=dict(
                type='FCNHead', in_channels=64 * 2**stage // 2, in_index=stage - 1, channels=128,
                num_convs=1, concat_input=False, num_classes=19, align_corners=False,
                norm_cfg=dict(type='BN', requires_grad=True),
                loss_decode=dict(type='CrossEntropyLoss')),
            train_cfg=dict(), test_cfg=dict(mode='whole'))))
    for stage in (2, 3)
}
model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    companions=branches,
    distill=[
        entry for stage in (2, 3) for entry in (
            dict(type='mmkd.KDLoss', tau=3.0, loss_weight=0.3,
                 on=dict(student=f'stage{stage}:cls', teacher='student:cls')),
            dict(type='mmkd.MSELoss', loss_weight=0.03,
                 on=dict(student=f'stage{stage}:decode_head.convs',
                         teacher='student:decode_head.bottleneck')))
    ])
