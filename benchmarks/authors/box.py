"""What the box term of MasKD's configs returns: their settings of mmdet's `SmoothL1Loss`.

The clone holds the configs; the loss is that of the installed mmdet, whose formula is the same as
that of their version, 2.14.

    git clone https://github.com/hunto/MasKD clone
    python benchmarks/authors/box.py clone
"""
import sys
from pathlib import Path

import torch
from mmdet.models.losses import SmoothL1Loss
from mmengine.config import Config
from recording import Case, write

CONFIGS = ('cascade_mask_rcnn_x101-fpn_x50_coco', 'fpn_r101-fpn_r50_coco',
           'retinanet_x101-retinanet_r50_coco')


def main(clone: str) -> None:
    torch.manual_seed(0)
    cases = []
    for name, shape in zip(CONFIGS, ((20, 4), (6, 4 * 5), (2, 4 * 3, 2, 3))):
        path = Path(clone) / 'mmrazor' / 'configs' / 'distill' / 'maskd' / f'{name}.py'
        component, = (one for one in Config.fromfile(path).algorithm.distiller.components
                      if 'reg' in one.student_module)
        entry, = component.losses
        assert entry.pop('type') == 'mmdet.SmoothL1Loss'
        entry.pop('name')
        student = (2 * torch.randn(shape, dtype=torch.float64)).requires_grad_()
        teacher = torch.randn(shape, dtype=torch.float64)
        value = SmoothL1Loss(**entry)(student, teacher)
        gradient, = torch.autograd.grad(value, student)
        cases.append(Case(dict(entry), dict(student=student, teacher=teacher),
                          dict(value=value, gradient=gradient)))
    write('box', 'https://github.com/hunto/MasKD', clone, cases)


if __name__ == '__main__':
    main(sys.argv[1])
