"""Deep mutual learning: RetinaNet R18 and R34 learn together, each from its own view of the image.

Both see the same crop and flip, each with its own colour distortion (DoGo's views). The partner is
validated as 'partner/coco/bbox_mAP' and written to partner.pth at the end. The weight is 1/100 of
that in configs/bccd/kd.py. With the larger weight, two untrained networks keep each other from
learning (docs/results/schemes).

    python tools/train.py configs/mutual/retinanet_r18_bccd.py
"""
_base_ = ['../bccd/student.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

colours = [dict(type='PhotoMetricDistortion', brightness_delta=16, contrast_range=(0.8, 1.2),
                saturation_range=(0.8, 1.2), hue_delta=8)]
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline[:-1] + [
    dict(type='mmkd.PackViews', student=colours, views=dict(partner=colours),
         pack=_base_.train_pipeline[-1])
]))
partner = dict(
    default_scope='mmdet',
    model=dict(_base_.model, backbone=dict(_base_.model.backbone, depth=34)))
model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    companions=dict(partner=dict(type='mmkd.Partner', config=partner, view='partner')),
    distill=[dict(type='mmkd.KDLoss', on='cls', between=['student', 'partner'], loss_weight=0.05)])
