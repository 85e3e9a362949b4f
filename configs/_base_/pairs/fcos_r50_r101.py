"""FCOS R101 (40.8 AP, 2x, multi-scale) teaches FCOS R50 on COCO, 2x schedule, multi-scale."""
_base_ = ['mmdet::fcos/fcos_r50-caffe_fpn_gn-head_ms-640-800-2x_coco.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    # The published checkpoint is downloaded before the first batch.
    teacher=dict(config='mmdet::fcos/fcos_r101-caffe_fpn_gn-head_ms-640-800-2x_coco.py'))
