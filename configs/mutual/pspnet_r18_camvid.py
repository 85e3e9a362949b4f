"""Deep mutual learning: PSPNet R18 and R34 learn together, each from its own view of the image.

Both see the same crop and flip, each with its own colour distortion (DoGo's views). The partner is
validated as 'partner/mIoU' and written to partner.pth at the end.

    python tools/train.py configs/mutual/pspnet_r18_camvid.py
"""
_base_ = ['../camvid/student.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

colours = [dict(type='PhotoMetricDistortion')]
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline[:-1] + [
    dict(type='mmkd.PackViews', student=colours, views=dict(partner=colours),
         pack=_base_.train_pipeline[-1])
]))
partner = dict(
    default_scope='mmseg',
    model=dict(_base_.model, backbone=dict(_base_.model.backbone, depth=34)))
model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    companions=dict(partner=dict(type='mmkd.Partner', config=partner, view='partner')),
    distill=[dict(type='mmkd.KDLoss', on='cls', between=['student', 'partner'])])
