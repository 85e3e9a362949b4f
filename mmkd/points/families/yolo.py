"""Detectors of mmyolo: YOLOv5 to YOLOv8, YOLOX, PPYOLOE, RTMDet."""
import sys
from functools import partial
from typing import Any, Dict, List, Optional, Sequence

import torch
from torch import Tensor, nn

from ...registry import FAMILIES
from ..batches import AsGiven
from ..family import criteria_of
from ..point import Point
from ..recorder import Call
from .dense import DenseHead, described, is_rotated


class RowsOfBoxes(AsGiven):
    """For models that are given the boxes of a batch as one tensor: rows of image, class, and x1,
    y1, x2, y2."""

    def samples(self, inputs: Tensor, data_samples: Any) -> Optional[Sequence[Any]]:
        if not isinstance(data_samples, dict):
            return data_samples  # type: ignore[no-any-return]
        from mmdet.structures import DetDataSample
        from mmengine.structures import InstanceData
        if 'bboxes_labels' not in data_samples:
            raise ValueError('the samples of a batch of mmyolo must be a list, or a dict with '
                             f'`bboxes_labels`, but got a dict with {sorted(data_samples)}; use a '
                             'collate function and a data preprocessor of mmyolo')
        rows = data_samples['bboxes_labels']
        size = tuple(inputs.shape[2:])
        found = []
        for number in range(len(inputs)):
            own = rows[rows[:, 0] == number]
            sample = DetDataSample(metainfo=dict(
                img_shape=size, pad_shape=size, batch_input_shape=size))
            sample.gt_instances = InstanceData(bboxes=own[:, 2:].clone(), labels=own[:, 1].long())
            found.append(sample)
        return found


@FAMILIES.register_module()
class HeadOfModule(DenseHead):
    """Detectors whose ``bbox_head`` is one of mmyolo's heads.

    The layers are in ``head_module``, and the head returns its output: class scores first, a list
    over levels of (N, anchors·classes, H, W), then boxes. The larger p6 models of YOLOv7 return two
    of each in training; the second is of the auxiliary layers.
    """

    family = 'detectors of mmyolo'
    batches = RowsOfBoxes()

    @staticmethod
    def fits(model: nn.Module) -> bool:
        # For a model of mmyolo, mmyolo is imported already; for other models it is not needed.
        module = sys.modules.get('mmyolo.models.dense_heads.yolov5_head')
        return module is not None and isinstance(
            getattr(model, 'bbox_head', None), module.YOLOv5Head)

    @staticmethod
    def points(model: Any) -> Dict[str, Point]:
        head = model.bbox_head
        use_sigmoid = getattr(head, 'use_sigmoid_cls', True)
        points = dict(cls=Point(
            'cls', ('bbox_head', ), partial(_main, 0), use_sigmoid=use_sigmoid,
            num_classes=head.num_classes + (not use_sigmoid), num_named=head.num_classes,
            criteria=criteria_of(model, 'bbox_head'), is_on_scores=not _has_labels(head)))
        if not is_rotated(head):
            coding = f'{described(head.bbox_coder)} from {described(head.prior_generator)}'
            points['reg'] = Point('reg', ('bbox_head', ), partial(_main, 1), coding=coding,
                                  box_columns=4)
            points['boxes'] = Point('boxes', ('bbox_head', ), partial(_decoded, head),
                                    coding='XYXY(unit=pixels of the input)', box_columns=4)
        return points

    @staticmethod
    def about(model: Any, path: str) -> Dict[str, Any]:
        return {}


def _has_labels(head: Any) -> bool:
    """Whether ``loss_cls`` is given the label of each position, not scores or one-hot rows."""
    return any(cls.__name__ == 'RTMDetHead' for cls in type(head).__mro__)


def _main(number: int, calls: List[Call]) -> List[Tensor]:
    """One output of a head, without that of auxiliary layers."""
    return [level[0] if isinstance(level, (list, tuple)) else level
            for call in calls for level in call.output[number]]


def _decoded(head: Any, calls: List[Call]) -> List[Tensor]:
    """(N, anchors·4, H, W): x1, y1, x2, y2 in pixels of the input, not clipped to it."""
    found = []
    for call in calls:
        levels = _main(1, [call])
        priors = head.prior_generator.grid_priors(
            [level.shape[2:] for level in levels], device=levels[0].device)
        found += [_decode(head, *one) for one in zip(levels, priors, head.featmap_strides)]
    return found


def _decode(head: Any, level: Tensor, priors: Tensor, stride: Any) -> Tensor:
    count, _, height, width = level.shape
    coded = level.permute(0, 2, 3, 1).reshape(count, -1, 4)
    coded = coded.to(torch.promote_types(level.dtype, torch.float32))
    side = stride[0] if isinstance(stride, (list, tuple)) else stride
    boxes = head.bbox_coder.decode(priors.to(coded.dtype)[None], coded,
                                   coded.new_full((coded.shape[1], ), float(side)))
    return boxes.reshape(count, height, width, -1).permute(0, 3, 1, 2)
