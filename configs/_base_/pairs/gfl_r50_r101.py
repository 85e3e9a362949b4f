"""GFL R101 (44.7 AP, 2x, multi-scale) teaches GFL R50 on COCO, 1x schedule."""
_base_ = ['mmdet::gfl/gfl_r50_fpn_1x_coco.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    # The published checkpoint is downloaded before the first batch.
    teacher=dict(config='mmdet::gfl/gfl_r101_fpn_ms-2x_coco.py'))
