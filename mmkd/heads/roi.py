"""Two-stage detectors of mmdet: Faster R-CNN, Mask R-CNN, Cascade R-CNN, ..."""
import sys
from typing import Any, Dict, Iterable, List, Optional

from torch import Tensor, nn

from ..recorder import Call
from ..registry import HEADS
from .base import HeadAdapter, Point, is_asked, tensors_of
from .dense import class_scores, logits_of_dense_head


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
        return module is not None and isinstance(
            head, (module.StandardRoIHead, module.CascadeRoIHead)
        ) and head.with_bbox and not _needs_more_than_rois(head, module)

    @staticmethod
    def points(model: Any) -> Dict[str, Point]:
        points = {}
        stages = tuple(
            Point('cls', (path, ), _class_scores_of_rois, asked_at=(extractor, ), **logits)
            for path, extractor, logits in _stages(model.roi_head) if logits)
        if len(stages) == 1 and not _is_cascade(model.roi_head):
            points['cls'] = stages[0]
        elif stages:
            points['cls'] = Point(
                'cls', tuple(stage.paths[0] for stage in stages),
                _class_scores_of_stages,
                asked_at=tuple(stage.asked_at[0] for stage in stages), stages=stages,
                **_stages(model.roi_head)[0][2])
        if getattr(model, 'rpn_head', None) is not None:
            logits = logits_of_dense_head(model.rpn_head)
            if logits:
                points['rpn_cls'] = Point(
                    'rpn_cls', ('rpn_head', ), class_scores, **dict(logits, num_named=0))
        return points

    @staticmethod
    def about(model: Any, path: str) -> Dict[str, Any]:
        if path == 'rpn_head.rpn_cls':
            return dict(logits_of_dense_head(model.rpn_head), num_named=0, is_map=False)
        for head, extractor, logits in _stages(model.roi_head):
            if is_asked([path], head) or is_asked([path], extractor):
                about = dict(asked_at=(extractor, ), read=_last_call, is_map=False)
                return dict(about, **logits) if path == f'{head}.fc_cls' else about
        return {}

    @staticmethod
    def predict(model: Any, features: Any, paths: Iterable[str],
                at: Optional[Tensor] = None) -> None:
        if is_asked(paths, 'rpn_head'):
            model.rpn_head.forward(features)
        for number, (head, extractor, _) in enumerate(_stages(model.roi_head)):
            if is_asked(paths, head) or is_asked(paths, extractor):
                stage = (number, ) if _is_cascade(model.roi_head) else ()
                model.roi_head._bbox_forward(*stage, features, at)

    @staticmethod
    def made_up(inputs: Tensor) -> Optional[Tensor]:
        height, width = inputs.shape[2:]
        whole_image = inputs.new_tensor([0., 0., 0., width, height])
        return whole_image.repeat(2, 1)  # two, because one row has no relations


def _needs_more_than_rois(head: Any, module: Any) -> bool:
    """Whether the box head also wants queries, a semantic or a global feature, or more images."""
    return isinstance(head, (module.SparseRoIHead, module.TridentRoIHead)) or any(
        getattr(head, part, False) for part in ('with_semantic', 'with_glbctx'))


def _is_cascade(roi_head: Any) -> bool:
    return isinstance(roi_head.bbox_head, nn.ModuleList)


def _stages(roi_head: Any) -> List[Any]:
    """Path of the box head, path of the RoI extractor, and what its logits are, stage by stage."""
    head, extractor = 'roi_head.bbox_head', 'roi_head.bbox_roi_extractor'
    if not _is_cascade(roi_head):
        return [(head, extractor, _logits(roi_head.bbox_head))]
    return [(f'{head}.{i}', f'{extractor}.{i}', _logits(one))
            for i, one in enumerate(roi_head.bbox_head)]


def _logits(bbox_head: Any) -> Dict[str, Any]:
    if getattr(bbox_head, 'custom_cls_channels', False) or not bbox_head.with_cls:
        return {}  # Seesaw loss: objectness beside the classes, and an activation of its own
    # A column for the background comes last, with sigmoid too.
    return dict(use_sigmoid=bool(getattr(bbox_head.loss_cls, 'use_sigmoid', False)),
                num_classes=bbox_head.num_classes + 1, num_named=bbox_head.num_classes)


# Some samplers (OHEM, PISA) run the head on candidates first: the last call is that of the loss.


def _class_scores_of_rois(calls: List[Call]) -> List[Tensor]:
    return [call.output[0] for call in calls[-1:]]


def _class_scores_of_stages(*stages: List[Call]) -> List[Tensor]:
    return [level for calls in stages for level in _class_scores_of_rois(calls)]


def _last_call(calls: List[Call]) -> List[Tensor]:
    return tensors_of(calls[-1:])
