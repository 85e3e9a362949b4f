"""Passes the student's head features through the teacher's head, with gradient (CrossKD).

A config for `tools/train.py`. The first run downloads the teacher's weights.
"""
_base_ = ['mmdet::retinanet/retinanet_r18_fpn_1x_coco.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    teacher=dict(config='mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'),
    distill=[
        dict(type='mmkd.KDLoss', on='cls',
             through=dict(student='bbox_head.cls_convs.2', teacher='bbox_head.cls_convs.2'))])
