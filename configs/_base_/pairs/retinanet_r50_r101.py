"""RetinaNet R101 (38.9 AP, 2x) teaches RetinaNet R50 on COCO, 2x schedule."""
_base_ = ['mmdet::retinanet/retinanet_r50_fpn_2x_coco.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    # The published checkpoint is downloaded before the first batch.
    teacher=dict(config='mmdet::retinanet/retinanet_r101_fpn_2x_coco.py'))
