"""What LD's authors return: `LDHead.loss_single` and `ATSSAssigner.get_vlr_region`.

    git clone https://github.com/HikariTJU/LD clone
    python benchmarks/authors/ld.py clone
"""
import sys
from types import SimpleNamespace
from typing import Any

import torch
from mmdet_files import Clone, centres, gradients_of, grid_of, integral
from recording import Case, write

LEVELS, BINS, CLASSES = ((4, 4, 8), (2, 2, 16)), 5, 3
"""Height, width and stride of each level."""


def main(clone: str) -> None:
    files = Clone(clone, is_two=True)
    head = files.ld_head()
    files.load('mmdet.core.bbox.assigners.atss_assigner')
    torch.manual_seed(0)
    anchors = [grid_of(*one) for one in LEVELS]
    boxes = torch.tensor([[2., 1, 70, 60], [4, 8, 28, 30], [-9, -7, 40, 50]], dtype=torch.float64)
    cases = [one_case(files, head, anchors, boxes, topk) for topk in (9, 3)]
    write('ld', 'https://github.com/HikariTJU/LD', clone, cases)


def one_case(files: Clone, head: Any, anchors: list, boxes: torch.Tensor, topk: int) -> Case:
    assigner = files.registry.build(dict(
        type='ATSSAssigner', topk=topk, iou_calculator=dict(type='BboxOverlaps2D')))
    sizes = [len(one) for one in anchors]
    region = assigner.get_vlr_region(torch.cat(anchors).float(), sizes, boxes.float()).double()
    kl = 'KnowledgeDistillationKLDivLoss'
    own = SimpleNamespace(
        cls_out_channels=CLASSES, num_classes=CLASSES, reg_max=BINS - 1, imitation_method='fitnet',
        integral=integral(BINS), anchor_center=centres, loss_im=nothing, loss_bbox=nothing,
        loss_dfl=nothing, loss_cls=nothing,
        loss_ld=files.registry.build(dict(type=kl, loss_weight=0.25, T=10)),
        loss_ld_vlr=files.registry.build(dict(type=kl, loss_weight=0.25, T=10)),
        loss_kd=files.registry.build(dict(type=kl, loss_weight=10, T=2)))
    names = ('student', 'teacher', 'student_cls', 'teacher_cls', 'labels')
    inputs: dict = {name: [] for name in names}
    outputs: dict = dict(region=region, main=[], valuable=[], kd=[], gradients=[])
    for (height, width, stride), its, at in zip(LEVELS, anchors, region.split(sizes)):
        bins = 2 * torch.randn(2, 1, 4 * BINS, height, width, dtype=torch.float64)
        logits = 2 * torch.randn(2, 1, CLASSES, height, width, dtype=torch.float64)
        student, scores = bins[0].requires_grad_(), logits[0].requires_grad_()
        labels = torch.randint(0, CLASSES + 3, (1, height, width)).clamp(max=CLASSES)
        features = torch.zeros(1, 256, height, width, dtype=torch.float64)
        found = head.loss_single(
            own, its, scores, student, labels, torch.ones(1, height, width).double(),
            torch.cat([its + 3], 1), (stride, stride), bins[1], logits[1], features, features, at,
            torch.zeros(height * width), 1.)
        main, valuable, kd = found[3:6]
        for name, value in zip(names, (student, bins[1], scores, logits[1], labels)):
            inputs[name].append(value)
        for name, value in zip(('main', 'valuable', 'kd'), (main, valuable, kd)):
            outputs[name].append(value)
        outputs['gradients'].append(gradients_of(main + valuable + kd, [student, scores]))
    return Case(dict(topk=topk), dict(inputs, priors=anchors, boxes=boxes), outputs)


def nothing(*args: Any, **kwargs: Any) -> torch.Tensor:
    return torch.zeros(())


if __name__ == '__main__':
    main(sys.argv[1])
