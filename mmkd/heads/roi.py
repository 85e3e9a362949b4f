"""Two-stage detectors of mmdet: Faster R-CNN, Mask R-CNN, Cascade R-CNN, ..."""
import sys
from dataclasses import replace
from functools import partial
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

from torch import Tensor, nn

from ..recorder import Call
from ..registry import HEADS
from .base import HeadAdapter, Point, is_asked, tensors_of
from .dense import class_scores, logits_of_dense_head

TINY = 1e-12
"""Probabilities below it have the logarithm of it."""


@HEADS.register_module()
class RoIHead(HeadAdapter):
    """Detectors with one of mmdet's RoI heads, of one stage or a cascade.

    The student predicts at the RoIs that it sampled; another model's own RoIs lie elsewhere, so it
    is asked at the student's: its features, its RoI extractor, its box head. No RPN, no sampling.
    """

    family = 'two-stage detectors of mmdet'

    @staticmethod
    def fits(model: nn.Module) -> bool:
        module = sys.modules.get('mmdet.models.roi_heads')
        head = getattr(model, 'roi_head', None)
        # Sparse R-CNN hands queries on beside the RoIs, TridentNet makes three images of one.
        return module is not None and isinstance(
            head, (module.StandardRoIHead, module.CascadeRoIHead)) and not isinstance(
                head, (module.SparseRoIHead, module.TridentRoIHead)) and head.with_bbox

    @staticmethod
    def points(model: Any) -> Dict[str, Point]:
        points = {}
        stages = tuple(
            Point('cls', (path, ), partial(_class_scores, head.loss_cls), asked_at=(extractor, ),
                  **_logits(head))
            for path, extractor, head in _stages(model.roi_head) if _logits(head))
        if stages:
            points['cls'] = stages[0]
            if _is_cascade(model.roi_head):
                points['cls'] = replace(
                    stages[0], read=partial(_of_stages, stages), stages=stages,
                    paths=tuple(stage.paths[0] for stage in stages),
                    asked_at=tuple(stage.asked_at[0] for stage in stages))
        if getattr(model, 'rpn_head', None) is not None:
            logits = logits_of_dense_head(model.rpn_head)
            if logits:
                points['rpn_cls'] = Point('rpn_cls', ('rpn_head', ), class_scores, **logits)
        return points

    @staticmethod
    def about(model: Any, path: str) -> Dict[str, Any]:
        if path == 'rpn_head.rpn_cls':
            return dict(logits_of_dense_head(model.rpn_head), is_map=False)
        for head_path, extractor, head in _stages(model.roi_head):
            if is_asked([path], head_path) or is_asked([path], extractor):
                about = dict(asked_at=(extractor, ), read=_last_call, is_map=False)
                is_class_layer = path == f'{head_path}.fc_cls' and not _is_custom(head)
                return dict(about, **_logits(head)) if is_class_layer else about
        return {}

    @staticmethod
    def predict(model: Any, features: Any, paths: Iterable[str],
                at: Optional[Tensor] = None, data_samples: Optional[Sequence] = None) -> None:
        if is_asked(paths, 'rpn_head'):
            model.rpn_head.forward(features)
        asked = [number for number, (head, extractor, _) in enumerate(_stages(model.roi_head))
                 if is_asked(paths, head) or is_asked(paths, extractor)]
        context = _context(model.roi_head, features) if asked else {}
        for number in asked:
            stage = (number, ) if _is_cascade(model.roi_head) else ()
            model.roi_head._bbox_forward(*stage, features, at, **context)

    @staticmethod
    def made_up(inputs: Tensor) -> Optional[Tensor]:
        height, width = inputs.shape[2:]
        whole_image = inputs.new_tensor([0., 0., 0., width, height])
        return whole_image.repeat(2, 1)  # two, because one row has no relations


def _is_cascade(roi_head: Any) -> bool:
    return isinstance(roi_head.bbox_head, nn.ModuleList)


def _stages(roi_head: Any) -> List[Tuple[str, str, Any]]:
    """Path of the box head, path of the RoI extractor, and the box head, stage by stage."""
    head, extractor = 'roi_head.bbox_head', 'roi_head.bbox_roi_extractor'
    if not _is_cascade(roi_head):
        return [(head, extractor, roi_head.bbox_head)]
    return [(f'{head}.{i}', f'{extractor}.{i}', one) for i, one in enumerate(roi_head.bbox_head)]


def _context(roi_head: Any, features: Any) -> Dict[str, Any]:
    """What the box heads of HTC and SCNet see of the whole image beside their RoI."""
    context = {}
    if getattr(roi_head, 'with_semantic', False):
        context['semantic_feat'] = roi_head.semantic_head(features)[1]
    if getattr(roi_head, 'with_glbctx', False):
        context['glbctx_feat'] = roi_head.glbctx_head(features)[1]
    return context


def _is_custom(bbox_head: Any) -> bool:
    """Whether the loss decides on columns and activation, as Seesaw's does."""
    return getattr(bbox_head, 'custom_cls_channels', False)


def _logits(bbox_head: Any) -> Dict[str, Any]:
    if not getattr(bbox_head, 'with_cls', True):
        return {}
    classes = bbox_head.num_classes
    use_sigmoid = bool(getattr(bbox_head.loss_cls, 'use_sigmoid', False))
    # A column for the background comes last, with sigmoid too; only custom losses do without.
    has_background = not (_is_custom(bbox_head) and use_sigmoid)
    return dict(use_sigmoid=use_sigmoid, num_classes=classes + has_background, num_named=classes)


def _class_scores(loss: Any, calls: List[Call]) -> List[Tensor]:
    # Some samplers (OHEM, PISA) run the head on candidates first: the last call is the loss's.
    levels = [call.output[0] for call in calls[-1:]]
    if not getattr(loss, 'custom_cls_channels', False):
        return levels
    if loss.use_sigmoid:
        return [level[:, :loss.num_classes] for level in levels]
    # Logits whose softmax is the loss's own activation: the logarithm of it.
    return [loss.get_activation(level.float()).clamp(min=TINY).log() for level in levels]


def _of_stages(stages: Sequence[Point], *calls: List[Call]) -> List[Tensor]:
    return [level for stage, one in zip(stages, calls) for level in stage.read(one)]


def _last_call(calls: List[Call]) -> List[Tensor]:
    return tensors_of(calls[-1:])
