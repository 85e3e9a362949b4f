"""Two-stage detectors of mmdet: Faster R-CNN, Mask R-CNN, Cascade R-CNN, ..."""
import sys
from dataclasses import replace
from functools import partial
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from ...registry import FAMILIES
from ..family import ModelFamily, criteria_of
from ..point import Point, is_asked, tensors_of
from ..recorder import Call
from .dense import class_scores, described, logits_of_dense_head, run_dense_head

TINY = 1e-12
"""Lower bound of probabilities before the logarithm."""


@FAMILIES.register_module()
class RoIHead(ModelFamily):
    """Detectors with one of mmdet's RoI heads, of one stage or a cascade.

    The student predicts for the RoIs that it sampled. The own RoIs of the teacher would differ, so
    it is run for those of the student: its features, RoI extractor and box head, without RPN and
    sampling.

    Points are 'cls', the class logits (RoIs, C), 'reg', the box offsets, 'mask', the mask logits of
    the positive RoIs (RoIs, C, H, W), one mask per class, and 'rpn_cls', the objectness of the RPN.
    """

    family = 'two-stage detectors of mmdet'
    kind = 'roi'

    @staticmethod
    def fits(model: nn.Module) -> bool:
        module = sys.modules.get('mmdet.models.roi_heads')
        head = getattr(model, 'roi_head', None)
        # The heads of Sparse R-CNN need queries in addition to the RoIs.
        return module is not None and isinstance(
            head, (module.StandardRoIHead, module.CascadeRoIHead)) and not isinstance(
                head, module.SparseRoIHead) and head.with_bbox

    @staticmethod
    def points(model: Any) -> Dict[str, Point]:
        points = {}
        for name, part, describe in (('cls', 'bbox', _logits), ('reg', 'bbox', _offsets),
                                     ('mask', 'mask', _masks)):
            stages = tuple(
                Point(name, (path, ), asked_at=(extractor, ),
                      criteria=criteria_of(model, path) if name == 'cls' else (), **described)
                for path, extractor, head in _stages(model.roi_head, part)
                for described in [describe(head)] if described)
            if stages and _is_cascade(model.roi_head):
                points[name] = replace(
                    stages[0], read=partial(_of_stages, stages), stages=stages,
                    paths=tuple(stage.paths[0] for stage in stages),
                    asked_at=tuple(stage.asked_at[0] for stage in stages),
                    criteria=tuple(one for stage in stages for one in stage.criteria))
            elif stages:
                points[name] = stages[0]
        if getattr(model, 'rpn_head', None) is not None:
            logits = logits_of_dense_head(model.rpn_head)
            if logits:  # objectness, for every kind of head
                logits['num_named'] = 0
                points['rpn_cls'] = Point('rpn_cls', ('rpn_head', ), class_scores,
                                          criteria=criteria_of(model, 'rpn_head'), **logits)
        return points

    @staticmethod
    def about(model: Any, path: str) -> Dict[str, Any]:
        if path == 'rpn_head.rpn_cls':
            return dict(logits_of_dense_head(model.rpn_head), is_map=False)
        for part in ('bbox', 'mask'):
            for head_path, extractor, head in _stages(model.roi_head, part):
                if is_asked([path], head_path) or is_asked([path], extractor):
                    read = _last_call if part == 'bbox' else _first_call
                    about = dict(asked_at=(extractor, ), read=read, is_map=False)
                    is_class_layer = path == f'{head_path}.fc_cls' and not _is_custom(head)
                    return dict(_logits(head), **about) if is_class_layer else about
        return {}

    @staticmethod
    def predict(model: Any, features: Any, paths: Iterable[str],
                at: Optional[Tensor] = None, data_samples: Optional[Sequence] = None) -> None:
        if is_asked(paths, 'rpn_head'):
            run_dense_head(model.rpn_head, features)
        asked = [(part, number) for part in ('bbox', 'mask')
                 for number, (head, extractor, _) in enumerate(_stages(model.roi_head, part))
                 if is_asked(paths, head) or is_asked(paths, extractor)]
        if not asked:
            return
        assert at is not None
        # In training TridentNet has three images per input image, branch after branch.
        at = torch.cat([at[:, :1] % len(features[0]), at[:, 1:]], dim=1)
        context = _context(model.roi_head, features)
        for part, number in asked:
            stage = (number, ) if _is_cascade(model.roi_head) else ()
            if part == 'bbox':
                model.roi_head._bbox_forward(*stage, features, at, **context)
            else:
                context.pop('glbctx_feat', None)
                model.roi_head._mask_forward(*stage, features, at, **context)

    @staticmethod
    def made_up(inputs: Tensor) -> Optional[Tensor]:
        height, width = inputs.shape[2:]
        whole_image = inputs.new_tensor([0., 0., 0., width, height])
        return whole_image.repeat(2, 1)  # two, because a loss over relations of rows needs two


def _is_cascade(roi_head: Any) -> bool:
    return isinstance(roi_head.bbox_head, nn.ModuleList)


def _stages(roi_head: Any, part: str) -> List[Tuple[str, str, Any]]:
    """Path of the head, path of the RoI extractor, and the head, stage by stage.

    Args:
        roi_head (nn.Module): The RoI head.
        part (str): 'bbox' or 'mask'. Masks that need more than their RoIs (SCNet), or have no RoIs
            of their own (a shared extractor), are left out.
    """
    head, extractor = f'{part}_head', f'{part}_roi_extractor'
    found: Any = getattr(roi_head, head, None)
    if found is None or (
            part == 'mask' and getattr(roi_head, 'share_roi_extractor', False)):
        return []
    if not _is_cascade(roi_head):
        return [(f'roi_head.{head}', f'roi_head.{extractor}', found)]
    if not isinstance(found, nn.ModuleList):
        return []
    return [(f'roi_head.{head}.{i}', f'roi_head.{extractor}.{i}', one)
            for i, one in enumerate(found)]


def _context(roi_head: Any, features: Any) -> Dict[str, Any]:
    """Features of the whole image that the box heads of HTC and SCNet need."""
    context = {}
    if getattr(roi_head, 'with_semantic', False):
        context['semantic_feat'] = roi_head.semantic_head(features)[1]
    if getattr(roi_head, 'with_glbctx', False):
        context['glbctx_feat'] = roi_head.glbctx_head(features)[1]
    return context


def _is_custom(bbox_head: Any) -> bool:
    """Whether the loss defines columns and activation, as Seesaw loss does."""
    return getattr(bbox_head, 'custom_cls_channels', False)


def _logits(bbox_head: Any) -> Dict[str, Any]:
    if not getattr(bbox_head, 'with_cls', True):
        return {}
    classes = bbox_head.num_classes
    # In a test mmdet applies softmax, even to logits that are trained by a sigmoid loss. Only
    # custom losses have their own activation, and need no last column for the background.
    use_sigmoid = _is_custom(bbox_head) and bool(getattr(bbox_head.loss_cls, 'use_sigmoid', False))
    has_background = not use_sigmoid
    return dict(read=partial(_class_scores, bbox_head.loss_cls), use_sigmoid=use_sigmoid,
                num_classes=classes + has_background, num_named=classes)


def _offsets(bbox_head: Any) -> Dict[str, Any]:
    coder = getattr(bbox_head, 'bbox_coder', None)
    # CrowdDet's head predicts several boxes per RoI.
    is_one_box = getattr(bbox_head, 'with_reg', True) and not hasattr(bbox_head, 'num_instance')
    if type(coder).__name__ != 'DeltaXYWHBBoxCoder' or not is_one_box:
        return {}
    coding = f'offsets from RoIs by {described(coder)}'
    if bbox_head.reg_class_agnostic:
        return dict(read=partial(_boxes, 1), coding=f'{coding}, one for all classes')
    classes = bbox_head.num_classes
    return dict(read=partial(_boxes, classes), coding=f'{coding}, one for each class',
                num_classes=classes, num_named=classes)


def _masks(mask_head: Any) -> Dict[str, Any]:
    if not hasattr(mask_head, 'class_agnostic'):
        return {}
    classes = 1 if mask_head.class_agnostic else mask_head.num_classes
    return dict(read=_first_call, use_sigmoid=True, num_classes=classes,
                num_named=0 if mask_head.class_agnostic else classes)


def _class_scores(loss: Any, calls: List[Call]) -> List[Tensor]:
    # Some samplers (OHEM, PISA) first run the head on candidates: the last call is for the loss.
    levels = [call.output[0] for call in calls[-1:]]
    if not getattr(loss, 'custom_cls_channels', False):
        return levels
    if loss.use_sigmoid:
        return [level[:, :loss.num_classes] for level in levels]
    # The logarithm of the loss's own activation: its softmax is this activation.
    return [loss.get_activation(level.float()).clamp(min=TINY).log() for level in levels]


def _of_stages(stages: Sequence[Point], *calls: List[Call]) -> List[Tensor]:
    return [level for stage, one in zip(stages, calls) for level in stage.read(one)]


def _last_call(calls: List[Call]) -> List[Tensor]:
    return tensors_of(calls[-1:])


def _first_call(calls: List[Call]) -> List[Tensor]:
    """The first call: HTC runs the mask heads of earlier stages again, for their features."""
    return tensors_of(calls[:1])


def _boxes(classes: int, calls: List[Call]) -> List[Tensor]:
    """Boxes (RoIs, 4 * classes) with the classes as inner index, like anchors and class logits."""
    return [call.output[1].unflatten(1, (classes, 4)).transpose(1, 2).flatten(1)
            for call in calls[-1:]]
