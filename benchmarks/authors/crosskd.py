"""What CrossKD's authors return: the losses of their four detectors, and their scaled features.

    git clone https://github.com/jbwang1997/CrossKD clone
    python benchmarks/authors/crosskd.py clone

The clone is one of mmdet 3; its files are imported into the installed mmdet 3.
"""
import sys
from types import SimpleNamespace
from typing import Any, Callable, List

import torch
from mmdet.models.dense_heads import FCOSHead
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
from mmdet_files import Clone, gradients_of, grid_of
from mmengine.structures import InstanceData
from recording import Case, write
from torch import Tensor

LEVELS, CLASSES, BINS, COUNT = ((3, 4, 8), (2, 2, 16)), 3, 5, 3.
KD = dict(type='KDQualityFocalLoss', beta=1)


def main(clone: str) -> None:
    files = Clone(clone, is_two=False)
    for part in ('losses.utils', 'losses.kd_loss', 'losses.iou_loss', 'losses.cross_entropy_loss',
                 'detectors.crosskd_single_stage'):
        files.load(f'mmdet.models.{part}')
    gfl, retinanet, atss, fcos = (getattr(
        files.load(f'mmdet.models.detectors.crosskd_{name.lower()}'), f'CrossKD{name}')
        for name in ('GFL', 'RetinaNet', 'ATSS', 'FCOS'))
    torch.manual_seed(0)
    build = files.registry.build
    write('crosskd', 'https://github.com/jbwang1997/CrossKD', clone,
          [of_gfl(gfl, build), of_retinanet(retinanet, build), of_atss(atss, build),
           of_fcos(fcos, build), of_scale(gfl)])


def random(channels: int) -> List[List[Tensor]]:
    """The student's and the teacher's levels."""
    return [[(2 * torch.randn(1, channels, height, width, dtype=torch.float64)).requires_grad_(
        side == 0) for height, width, _ in LEVELS] for side in (0, 1)]


def weights() -> List[Tensor]:
    return [(torch.rand(1, height * width) > 0.2).double() for height, width, _ in LEVELS]


def of_gfl(kind: Any, build: Callable) -> Case:
    own = SimpleNamespace(
        bbox_head=SimpleNamespace(cls_out_channels=CLASSES, reg_max=BINS - 1),
        loss_cls_kd=build(dict(KD, loss_weight=1.)),
        loss_reg_kd=build(dict(type='KnowledgeDistillationKLDivLoss', class_reduction='sum', T=1,
                               loss_weight=4.)))
    (s, t), (bins, others), own_weights = random(CLASSES), random(4 * BINS), weights()
    found = [kind.pred_mimicking_loss_single(own, *one, avg_factor=COUNT)
             for one in zip(t, others, s, bins, own_weights)]
    classes, boxes = (sum(one[n] for one in found) for n in (0, 1))
    boxes = boxes / sum(one[2] for one in found)
    return Case(
        dict(head='GFL'),
        dict(student=s, teacher=t, student_bins=bins, teacher_bins=others,
             label_weights=as_maps(own_weights), num_positives=float(COUNT)),
        dict(classes=classes, boxes=boxes, gradients=gradients_of(classes, s),
             gradients_of_boxes=gradients_of(boxes, bins)))


def of_retinanet(kind: Any, build: Callable) -> Case:
    anchors = [grid_of(*one) for one in LEVELS]
    own = SimpleNamespace(
        bbox_head=SimpleNamespace(cls_out_channels=CLASSES, bbox_coder=DeltaXYWHBBoxCoder()),
        loss_cls_kd=build(dict(KD, loss_weight=1.)),
        loss_reg_kd=build(dict(type='GIoULoss', loss_weight=1.)))
    (s, t), (deltas, others), own_weights = random(CLASSES), random(4), weights()
    found = [kind.pred_mimicking_loss_single(own, *one, avg_factor=COUNT)
             for one in zip(t, others, s, deltas, anchors, own_weights)]
    classes, boxes = (sum(one[n] for one in found) for n in (0, 1))
    decode = own.bbox_head.bbox_coder.decode
    mine, theirs = ([in_pixels(decode, at, one) for at, one in zip(anchors, side)]
                    for side in (deltas, others))
    return Case(
        dict(head='RetinaNet'),
        dict(student=s, teacher=t, student_boxes=mine, teacher_boxes=theirs,
             label_weights=as_maps(own_weights), num_positives=float(COUNT)),
        dict(classes=classes, boxes=boxes, gradients=gradients_of(classes, s)))


def of_atss(kind: Any, build: Callable) -> Case:
    anchors = [grid_of(*one) for one in LEVELS]
    coder = DeltaXYWHBBoxCoder(target_stds=(.1, .1, .2, .2))
    own = SimpleNamespace(
        bbox_head=SimpleNamespace(cls_out_channels=CLASSES, num_classes=CLASSES, bbox_coder=coder),
        loss_cls_kd=build(dict(KD, loss_weight=1.)),
        loss_reg_kd=build(dict(type='GIoULoss', loss_weight=1.)),
        loss_center_kd=build(dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.)))
    (s, t), (deltas, others), (centred, its) = random(CLASSES), random(4), random(1)
    own_weights = weights()
    labels = [torch.randint(0, CLASSES + 3, one.shape).clamp(max=CLASSES) for one in own_weights]
    found = [kind.pred_imitation_loss_single(own, *one, avg_factor=COUNT) for one in zip(
        labels, anchors, t, others, its, s, deltas, centred, own_weights)]
    classes, boxes, centerness = (sum(one[n] for one in found) for n in range(3))
    mine, theirs = ([in_pixels(coder.decode, at, one) for at, one in zip(anchors, side)]
                    for side in (deltas, others))
    return Case(
        dict(head='ATSS'),
        dict(student=s, teacher=t, student_boxes=mine, teacher_boxes=theirs, labels=as_maps(labels),
             student_centerness=centred, teacher_centerness=its,
             label_weights=as_maps(own_weights), num_positives=float(COUNT)),
        dict(classes=classes, boxes=boxes, centerness=centerness,
             gradients=gradients_of(classes, s),
             gradients_of_centerness=gradients_of(centerness, centred)))


def of_fcos(kind: Any, build: Callable) -> Case:
    strides = [stride for _, _, stride in LEVELS]
    head = FCOSHead(num_classes=CLASSES, in_channels=4, feat_channels=4, stacked_convs=1,
                    strides=strides, norm_cfg=None, regress_ranges=((-1, 20), (20, 1e8)))
    own = SimpleNamespace(
        bbox_head=head, with_feat_distill=False, loss_cls_kd=build(dict(KD, loss_weight=0.4)),
        loss_reg_kd=build(dict(type='IoULoss', loss_weight=0.75)))
    (s, t), (sides, others), (centred, its) = random(CLASSES), random(4), random(1)
    sides, others = ([one.exp() for one in side] for side in (sides, others))
    objects = InstanceData(bboxes=torch.tensor([[2., 1, 30, 22], [4, 2, 14, 12]]).double(),
                           labels=torch.tensor([0, 2]))
    losses = kind.loss_by_feat(own, t, others, its, None, s, sides, centred, None, s, sides,
                               centred, [objects], None)
    points = head.prior_generator.grid_priors(
        [one.shape[2:] for one in s], dtype=torch.float64, device='cpu')
    labels, targets = head.get_targets(points, [objects])
    is_positive = torch.cat(labels) < CLASSES
    total = head.centerness_target(torch.cat(targets)[is_positive]).sum()
    mine, theirs = ([in_pixels(head.bbox_coder.decode, at, one) for at, one in zip(points, side)]
                    for side in (sides, others))
    classes, boxes = losses['loss_cls_kd'], losses['loss_reg_kd']
    return Case(
        dict(head='FCOS'),
        dict(student=s, teacher=t, student_boxes=mine, teacher_boxes=theirs,
             label_weights=[torch.ones_like(one[:, 0]) for one in s],
             num_positives=float(is_positive.sum()), centerness_sum=total),
        dict(classes=classes, boxes=boxes, gradients=gradients_of(classes, s)))


def of_scale(kind: Any) -> Case:
    """Their `align_scale`, with the gradient of a weighted sum of the result."""
    own, other = torch.randn(2, 2, 3, 3, 4, dtype=torch.float64)
    own.mul_(3).add_(1).requires_grad_()
    factor = torch.randn(own.shape, dtype=torch.float64)
    value = kind.align_scale(None, own, other)
    return Case(dict(head='any'), dict(student=own, teacher=other, factor=factor),
                dict(value=value, gradient=gradients_of((value * factor).sum(), [own])[0]))


def in_pixels(decode: Callable, priors: Tensor, level: Tensor) -> Tensor:
    flat = level.permute(0, 2, 3, 1).reshape(-1, 4)
    return decode(priors.to(flat.dtype), flat).reshape(
        1, *level.shape[2:], 4).permute(0, 3, 1, 2)


def as_maps(flat: List[Tensor]) -> List[Tensor]:
    return [one.reshape(1, height, width) for one, (height, width, _) in zip(flat, LEVELS)]


if __name__ == '__main__':
    main(sys.argv[1])
