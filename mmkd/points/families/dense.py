"""Single-stage detectors of mmdet: RetinaNet, FCOS, ATSS, GFL, YOLOX, SSD, RTMDet, ..."""
import sys
from dataclasses import replace
from functools import partial
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from ...registry import FAMILIES
from ..family import ModelFamily, criteria_of
from ..point import Point, is_asked
from ..recorder import Call


@FAMILIES.register_module()
class DenseHead(ModelFamily):
    """Detectors with one of mmdet's dense heads as ``bbox_head``.

    The first output of nearly all of them is the class scores, a list over levels of
    (N, anchors·classes, H, W). Activation and number of classes are read from ``use_sigmoid_cls``
    and ``cls_out_channels``. So the point 'cls' is independent of the names of layers in the head.
    Heads with other outputs are in ``OTHERS``.
    """

    family = 'single-stage detectors of mmdet with a dense head'
    kind = 'dense'

    @staticmethod
    def fits(model: nn.Module) -> bool:
        # For a model of mmdet, mmdet is imported already; for other models it is not needed.
        module = sys.modules.get('mmdet.models.dense_heads.base_dense_head')
        return module is not None and isinstance(
            getattr(model, 'bbox_head', None), module.BaseDenseHead)

    @staticmethod
    def points(model: Any) -> Dict[str, Point]:
        head = model.bbox_head
        for cls in type(head).__mro__:
            if cls.__name__ in OTHERS:
                read, classes = OTHERS[cls.__name__], head.num_classes
                if read is _classes_of_yolo:
                    read = partial(read, classes)
                return dict(cls=Point('cls', ('bbox_head', ), read, use_sigmoid=True,
                                      num_classes=classes, num_named=classes))
        logits = logits_of_dense_head(head)
        if not logits:
            return {}
        is_activated = getattr(getattr(head, 'loss_cls', None), 'activated', False)
        read = _logits_of_probabilities if is_activated else class_scores
        points = dict(cls=Point('cls', ('bbox_head', ), read,
                                criteria=criteria_of(model, 'bbox_head') * _has(LABELLED, head),
                                is_on_scores=_has(SCORED, head), **logits))
        coding = _coding(head)
        if coding:
            points['reg'] = Point('reg', ('bbox_head', ), partial(_output, 1), coding=coding,
                                  box_columns=columns_of_box(head))
        if (coding or _writes_distances(head)) and not is_rotated(head):
            points['boxes'] = Point('boxes', ('bbox_head', ), partial(_decoded, head),
                                      coding='XYXY(unit=pixels of the input)', box_columns=4)
        # With an `angle_coder`, the third output is the angle.
        if _has(CENTERNESS, head) and not hasattr(head, 'angle_coder'):
            centred_by = criteria_of(model, 'bbox_head', 'loss_centerness')
            points['cls'] = replace(points['cls'], centred_by=centred_by)
            points['centerness'] = Point('centerness', ('bbox_head', ), partial(_output, 2),
                                         use_sigmoid=True, num_classes=1)
        return points

    @staticmethod
    def heads(model: Any) -> Tuple[str, ...]:
        return tuple(cls.__name__ for cls in type(model.bbox_head).__mro__
                     if cls.__name__.endswith('Head'))

    @staticmethod
    def about(model: Any, path: str) -> Dict[str, Any]:
        layer, head = model.get_submodule(path), model.bbox_head
        logits = logits_of_dense_head(head)
        # Other layers do not return logits, even if their channels are a multiple of the classes.
        is_class_layer = (
            logits and path.startswith('bbox_head.') and 'cls' in path.rpartition('_')[2]
            and getattr(layer, 'out_channels', None) ==
            getattr(head, 'num_base_priors', 1) * logits['num_classes'])
        return dict(logits, is_map=False) if is_class_layer else {}

    @staticmethod
    def predict(model: Any, features: Any, paths: Iterable[str],
                at: Optional[Tensor] = None, data_samples: Optional[Sequence] = None) -> None:
        if is_asked(paths, 'bbox_head'):
            run_dense_head(model.bbox_head, features)

    @staticmethod
    def priors(model: Any, sizes: Sequence[Tuple[int, int]], like: Tensor) -> List[Tensor]:
        generator = getattr(model.bbox_head, 'prior_generator', None)
        if generator is None or len(sizes) != generator.num_levels:
            return []
        return list(generator.grid_priors(sizes, device=like.device))


def run_dense_head(head: Any, features: Any) -> None:
    """Run a dense head as in training.

    In eval mode, guided anchoring predicts no classes at positions with a low location score.
    """
    was_training = head.training
    head.training = was_training or any(
        cls.__name__ == 'GuidedAnchorHead' for cls in type(head).__mro__)
    try:
        head.forward(features)
    finally:
        head.training = was_training


def class_scores(calls: List[Call]) -> List[Tensor]:
    """The first output of a dense head: class scores, one tensor per level."""
    return [level for call in calls for level in call.output[0]]


def logits_of_dense_head(head: Any) -> Dict[str, Any]:
    """Activation and columns, as fields of a :class:`Point`; {} if the head does not have them."""
    if not hasattr(head, 'use_sigmoid_cls') or not hasattr(head, 'cls_out_channels'):
        return {}
    use_sigmoid, columns = head.use_sigmoid_cls, head.cls_out_channels
    # With softmax the last column is the background. An RPN has no classes, only objectness.
    named = columns if use_sigmoid else columns - 1
    is_rpn = any('RPNHead' in cls.__name__ for cls in type(head).__mro__)
    return dict(use_sigmoid=use_sigmoid, num_classes=columns, num_named=0 if is_rpn else named)


def _logits_of_probabilities(calls: List[Call]) -> List[Tensor]:
    """Logits for TOOD, whose head returns probabilities; losses apply the activation."""
    return [torch.logit(level.float(), eps=1e-6) for level in class_scores(calls)]


def _classes_of_yolo(classes: int, calls: List[Call]) -> List[Tensor]:
    """Class logits of all anchors for YOLOv3, which has 4 box channels and objectness first."""
    return [level.unflatten(1, (-1, 5 + classes))[:, :, 5:].flatten(1, 2)
            for level in class_scores(calls)]


def _corner_heatmaps(calls: List[Call]) -> List[Tensor]:
    """CornerNet: heatmaps of the top left corners, then of the bottom right ones."""
    return [level for call in calls for level in (*call.output[0], *call.output[1])]


OTHERS: Dict[str, Callable[..., List[Tensor]]] = {
    'CenterNetHead': _logits_of_probabilities,
    'CornerHead': _corner_heatmaps,
    'YOLOV3Head': _classes_of_yolo,
}
"""Functions that read the class logits of heads with other outputs. All use sigmoid."""

CODED = dict(
    ATSSHead=True, DDODHead=True, FSAFHead=True, GFLHead=True, PAAHead=True, RetinaHead=True,
    RTMDetHead=True, SSDHead=True, YOLOFHead=True,
    GARetinaHead=False, TOODHead=False, VFNetHead=False)
"""Whether the second output of a head is the input of its box coder, with its priors, in training
and test. In guided anchoring the anchors are predicted, TOOD decodes in its forward, and VFNet
returns refined boxes in a test."""


def _coding(head: Any) -> str:
    if not _has(CODED, head):
        return ''
    bins = f', {head.reg_max + 1} bins per side' if hasattr(head, 'reg_max') else ''
    return f'{described(head.bbox_coder)} from {described(head.prior_generator)}{bins}'


CENTERNESS = dict(
    ATSSHead=True, FCOSHead=True,
    AutoAssignHead=False, DDODHead=False, PAAHead=False, RTMDetHead=False, TOODHead=False,
    VFNetHead=False)
"""Whether the third output of a head is the centerness of positions, as logits, which its
``loss_centerness`` trains. In PAA and DDOD it is the IoU, in AutoAssign the objectness."""


LABELLED = dict(BaseDenseHead=True, AutoAssignHead=False, FreeAnchorRetinaHead=False)
"""Whether a head calls its ``loss_cls``. AutoAssign and FreeAnchor have one from their base class,
but compute their loss from bags of positions, which have no label each."""

SCORED = dict(CenterNetUpdateHead=True, VFNetHead=True, YOLOXHead=True)
"""Whether ``loss_cls`` of a head is given scores or one-hot rows, not labels."""


def _has(kinds: Dict[str, bool], head: Any) -> bool:
    return next((kinds[cls.__name__] for cls in type(head).__mro__ if cls.__name__ in kinds), False)


def described(part: Any) -> str:
    """Description of a box coder or prior generator with its settings, equal for equal ones."""
    settings = {name: value.tolist() if isinstance(value, Tensor) else value
                for name, value in sorted(vars(part).items()) if name != 'base_anchors'}
    return f'{type(part).__name__}({", ".join(f"{k}={v}" for k, v in settings.items())})'


def columns_of_box(head: Any) -> int:
    """Number of columns of a box in the second output of a head."""
    if type(head.bbox_coder).__name__ == 'DistanceAnglePointCoder':
        return 4  # the angle is an output of its own
    return getattr(head.bbox_coder, 'encode_size', 4) * (getattr(head, 'reg_max', 0) + 1)


def is_rotated(head: Any) -> bool:
    """Whether boxes have an angle, as in mmrotate: they are no x1, y1, x2, y2."""
    return hasattr(head, 'angle_coder') or (
        getattr(getattr(head, 'bbox_coder', None), 'encode_size', 4) != 4)


def _writes_distances(head: Any) -> bool:
    """Whether it is FCOS or its like, whose head has no coding of its own, but distances."""
    names = [cls.__name__ for cls in type(head).__mro__]
    return 'FCOSHead' in names and not any(name in CODED for name in names)


def _in_strides(head: Any) -> bool:
    """Whether a head returns distances in units of the stride: with ``norm_on_bbox``, FCOS
    multiplies them by it in a test alone. AutoAssign ignores this option, and always does."""
    return bool(head.training and getattr(head, 'norm_on_bbox', False)) and not any(
        cls.__name__ == 'AutoAssignHead' for cls in type(head).__mro__)


def _output(number: int, calls: List[Call]) -> List[Tensor]:
    return [level for call in calls for level in call.output[number]]


def _decoded(head: Any, calls: List[Call]) -> List[Tensor]:
    """(N, anchors·4, H, W): x1, y1, x2, y2 in pixels of the input, as they are before a test clips
    them to the image."""
    found = []
    for call in calls:
        levels = call.output[1]
        generator = head.prior_generator
        priors = generator.grid_priors([level.shape[2:] for level in levels],
                                       device=levels[0].device)
        strides = generator.strides
        if _in_strides(head):
            levels = [level * stride[0] for level, stride in zip(levels, strides)]
        found += [_decode(head, *one) for one in zip(levels, priors, strides)]
    return found


def _decode(head: Any, level: Tensor, priors: Tensor, stride: Tuple[int, int]) -> Tensor:
    count, _, height, width = level.shape
    coded = level.permute(0, 2, 3, 1).to(torch.promote_types(level.dtype, torch.float32))
    if hasattr(head, 'integral'):  # GFL: bins of a distance, in units of the stride
        coded = head.integral(coded.reshape(-1, 4 * (head.reg_max + 1))) * stride[0]
        priors = head.anchor_center(priors)
    priors = priors.to(coded.dtype).repeat(count, 1)
    boxes = head.bbox_coder.decode(priors, coded.reshape(-1, 4))
    boxes = boxes if isinstance(boxes, Tensor) else boxes.tensor
    return boxes.reshape(count, height, width, -1).permute(0, 3, 1, 2)
