"""Faster R-CNN R101 (41.8 AP, 3x) teaches Faster R-CNN R50 on COCO, 180k iterations of 8 images.

The models are mmdet's. The authors of DKD and of ReviewKD take detectron2's, whose teacher has 42.0
AP.
"""
_base_ = ['mmdet::_base_/models/faster-rcnn_r50_fpn.py', '../coco_180k.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    # The published checkpoint is downloaded before the first batch.
    teacher=dict(config='mmdet::faster_rcnn/faster-rcnn_r101_fpn_ms-3x_coco.py'))
