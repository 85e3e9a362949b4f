"""Single-stage detectors of mmdet: RetinaNet, FCOS, ATSS, GFL, YOLOX, SSD, RTMDet, ..."""
import sys
from typing import Any, Dict, Iterable, List, Optional

import torch
from torch import Tensor, nn

from ..recorder import Call
from ..registry import HEADS
from .base import HeadAdapter, Point, is_asked


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
        logits = logits_of_dense_head(model.bbox_head)
        if not logits:  # YOLOv3, CenterNet, ...: no class logits of their own
            return {}
        is_activated = getattr(getattr(model.bbox_head, 'loss_cls', None), 'activated', False)
        read = _logits_of_probabilities if is_activated else class_scores
        return dict(cls=Point('cls', ('bbox_head', ), read, **logits))

    @staticmethod
    def about(model: Any, path: str) -> Dict[str, Any]:
        layer, head = model.get_submodule(path), model.bbox_head
        logits = logits_of_dense_head(head)
        # A tower or the box layer is no logits, even where its channels happen to divide.
        is_class_layer = (
            logits and path.startswith('bbox_head.') and 'cls' in path.rpartition('_')[2]
            and getattr(layer, 'out_channels', None) ==
            getattr(head, 'num_base_priors', 1) * logits['num_classes'])
        return dict(logits, is_map=False) if is_class_layer else {}

    @staticmethod
    def predict(model: Any, features: Any, paths: Iterable[str],
                at: Optional[Tensor] = None) -> None:
        if is_asked(paths, 'bbox_head'):
            model.bbox_head.forward(features)


def class_scores(calls: List[Call]) -> List[Tensor]:
    """The first of what a dense head returns: class scores, level by level."""
    return [level for call in calls for level in call.output[0]]


def logits_of_dense_head(head: Any) -> Dict[str, Any]:
    """Activation and columns, as fields of a :class:`Point`; {} for heads that do not tell."""
    if not hasattr(head, 'use_sigmoid_cls') or not hasattr(head, 'cls_out_channels'):
        return {}
    use_sigmoid, columns = head.use_sigmoid_cls, head.cls_out_channels
    # With softmax the last column is the background's. An RPN tells objects from background only.
    named = columns if use_sigmoid else columns - 1
    is_rpn = any('RPNHead' in cls.__name__ for cls in type(head).__mro__)
    return dict(use_sigmoid=use_sigmoid, num_classes=columns, num_named=0 if is_rpn else named)


def _logits_of_probabilities(calls: List[Call]) -> List[Tensor]:
    """TOOD's head returns probabilities; losses apply the activation themselves."""
    return [torch.logit(level.float(), eps=1e-6) for level in class_scores(calls)]
