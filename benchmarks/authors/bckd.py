"""What BCKD's authors return: `LDHead.loss_single` with the losses of their config.

    git clone https://github.com/TinyTigerPan/BCKD clone
    python benchmarks/authors/bckd.py clone
"""
import sys
from types import SimpleNamespace
from typing import Any

import torch
from mmdet_files import Clone, centres, decoded, encoded, gradients_of, grid_of, integral
from recording import Case, write

HEIGHT, WIDTH, STRIDE, BINS, CLASSES = 3, 4, 8, 5, 4


def main(clone: str) -> None:
    files = Clone(clone, is_two=True)
    head = files.ld_head()
    torch.manual_seed(0)
    cases = [one_case(files, head, has_positives) for has_positives in (True, False)]
    write('bckd', 'https://github.com/TinyTigerPan/BCKD', clone, cases)


def one_case(files: Clone, head: Any, has_positives: bool) -> Case:
    own = SimpleNamespace(
        cls_out_channels=CLASSES, num_classes=CLASSES, reg_max=BINS - 1, imitation_method='fitnet',
        integral=integral(BINS), anchor_center=centres, loss_im=nothing, loss_bbox=nothing,
        loss_dfl=nothing, loss_cls=nothing, loss_ld=nothing, loss_ld_vlr=nothing,
        loss_score_kd_vlr=nothing, bbox_coder=SimpleNamespace(decode=decoded, encode=encoded),
        loss_kd=files.registry.build(dict(type='NovelKDLoss', loss_weight=1.)),
        loss_score_kd=files.registry.build(dict(type='GIoULoss', loss_weight=4.)))
    bins = 2 * torch.randn(2, 1, 4 * BINS, HEIGHT, WIDTH, dtype=torch.float64)
    logits = 2 * torch.randn(2, 1, CLASSES, HEIGHT, WIDTH, dtype=torch.float64)
    student, scores = bins[0].requires_grad_(), logits[0].requires_grad_()
    labels = torch.full((1, HEIGHT, WIDTH), CLASSES)
    if has_positives:
        labels = torch.randint(0, CLASSES + 3, (1, HEIGHT, WIDTH)).clamp(max=CLASSES)
    weights = (torch.rand(1, HEIGHT, WIDTH) > 0.2).double()
    anchors, count = grid_of(HEIGHT, WIDTH, STRIDE), 3.
    features = torch.zeros(1, 256, HEIGHT, WIDTH, dtype=torch.float64)
    found = head.loss_single(
        own, anchors, scores, student, labels, weights, anchors + 3, (STRIDE, STRIDE), bins[1],
        logits[1], features, features, torch.zeros(HEIGHT * WIDTH), torch.zeros(HEIGHT * WIDTH),
        count)
    classes, boxes = found[5], found[8]

    def in_pixels(level: torch.Tensor) -> torch.Tensor:
        flat = level.permute(0, 2, 3, 1).reshape(-1, 4 * BINS)
        pixels = decoded(centres(anchors), own.integral(flat) * STRIDE)
        return pixels.reshape(1, HEIGHT, WIDTH, 4).permute(0, 3, 1, 2)

    # Boxes in pixels are functions of the bins, which have the gradients.
    mine, theirs = in_pixels(student), in_pixels(bins[1])
    gradient, = gradients_of(classes, [scores])
    of_bins, = gradients_of(boxes, [student])
    return Case(
        dict(only_with_positives=True),
        dict(student=scores, teacher=logits[1], student_bins=student, student_boxes=mine,
             teacher_boxes=theirs, anchors=anchors, labels=labels, label_weights=weights,
             num_positives=torch.tensor(count, dtype=torch.float64), stride=float(STRIDE)),
        dict(classes=classes, boxes=boxes, gradient=gradient, gradient_of_bins=of_bins))


def nothing(*args: Any, **kwargs: Any) -> torch.Tensor:
    return torch.zeros(())


if __name__ == '__main__':
    main(sys.argv[1])
