"""Single-stage detectors of mmdet: RetinaNet, FCOS, ATSS, GFL, YOLOX, SSD, RTMDet, ..."""
import sys
from typing import Any, Dict, List, Optional, Sequence

import torch
from torch import Tensor, nn

from ..registry import HEADS
from .base import HeadAdapter, Point


@HEADS.register_module()
class DenseHead(HeadAdapter):
    """Detectors whose ``bbox_head`` is one of mmdet's dense heads.

    All of them return the class scores first, a list over levels of (N, anchors·classes, H, W), and
    tell activation and number of classes by ``use_sigmoid_cls`` and ``cls_out_channels``. So the
    point 'cls' needs no module path, whatever the layer inside is called.
    """

    family = 'single-stage detectors of mmdet with a dense head'

    @staticmethod
    def fits(model: nn.Module) -> bool:
        # A model of mmdet has imported mmdet; no reason to import it for other models.
        module = sys.modules.get('mmdet.models.dense_heads.base_dense_head')
        return module is not None and isinstance(
            getattr(model, 'bbox_head', None), module.BaseDenseHead)

    @staticmethod
    def points(model: Any) -> Dict[str, Point]:
        activation = _activation(model.bbox_head)
        if not activation:  # YOLOv3, CenterNet, ...: no class logits of their own
            return {}
        is_activated = getattr(getattr(model.bbox_head, 'loss_cls', None), 'activated', False)
        levels = _logits_of_probabilities if is_activated else _class_scores
        return dict(cls=Point('cls', 'bbox_head', levels, **activation))

    @staticmethod
    def activated(model: Any, path: str) -> Dict[str, Any]:
        layer, head = model.get_submodule(path), model.bbox_head
        activation = _activation(head)
        # A tower or the box layer is no logits, even where its channels happen to divide.
        is_class_layer = (
            activation and path.startswith('bbox_head.') and 'cls' in path.rpartition('_')[2]
            and getattr(layer, 'out_channels', None) ==
            getattr(head, 'num_base_priors', 1) * activation['num_classes'])
        return activation if is_class_layer else {}

    @staticmethod
    def run(model: Any, inputs: Tensor, data_samples: Optional[Sequence] = None) -> None:
        model.bbox_head.forward(model.extract_feat(inputs))


def _class_scores(calls: List[Any]) -> List[Tensor]:
    return [level for outputs in calls for level in outputs[0]]


def _logits_of_probabilities(calls: List[Any]) -> List[Tensor]:
    """TOOD's head returns probabilities; losses apply the activation themselves."""
    return [torch.logit(level.float(), eps=1e-6) for level in _class_scores(calls)]


def _activation(head: Any) -> Dict[str, Any]:
    if not hasattr(head, 'use_sigmoid_cls') or not hasattr(head, 'cls_out_channels'):
        return {}
    return dict(use_sigmoid=head.use_sigmoid_cls, num_classes=head.cls_out_channels)
