"""A RepPoints detector that is narrow enough for a test."""
from typing import Any, Dict

from conftest import retinanet

HEAD = dict(num_classes=3, in_channels=16, feat_channels=16, stacked_convs=1)
"""Settings of a head of points on the body of :func:`conftest.retinanet`."""


def reppoints(**body: Any) -> Dict[str, Any]:
    """mmdet's RepPoints on the body of :func:`conftest.retinanet`."""
    assigners = dict(
        init=dict(type='PointAssigner', scale=4, pos_num=1),
        refine=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0))
    return dict(retinanet(**body), type='RepPointsDetector', bbox_head=dict(
        HEAD, type='RepPointsHead', point_feat_channels=16), train_cfg={
            stage: dict(assigner=assigner, allowed_border=-1, pos_weight=-1)
            for stage, assigner in assigners.items()})
