"""Numbers of FGD: a clone of https://github.com/yzd-v/FGD is given on the command line."""
import sys
from pathlib import Path

import mmcv.cnn
import torch
from importing import Registry, fill, load, some, stub
from mmengine.model import constant_init, kaiming_init
from recording import Case, write

clone = sys.argv[1]
stub('authors')
stub('authors.losses')
stub('authors.builder', DISTILL_LOSSES=Registry)
mmcv.cnn.constant_init, mmcv.cnn.kaiming_init = constant_init, kaiming_init  # mmcv 1.x
authors = load(Path(clone) / 'mmdet/distillation/losses/fgd.py', 'authors.losses.fgd')
BOXES = [[[3., 5, 17, 21], [10, 9, 33, 30], [11, 10, 12, 13]], [[1., 2, 39, 7]]]
cases = []
for boxes_by, size, tau in (('input', (32, 40), 0.5), ('image', (28, 33), 0.8)):
    loss = authors.FeatureLoss(3, 3, 'loss', temp=tau, alpha_fgd=0.4, beta_fgd=0.3, gamma_fgd=0.2,
                               lambda_fgd=0.1)
    state = fill(loss, seed=10)
    student, teacher = some(2, 3, 8, 10, seed=0).requires_grad_(), some(2, 3, 8, 10, seed=1)
    boxes = [torch.tensor(one, dtype=torch.float64) for one in BOXES]
    value = loss(student, teacher, boxes, [dict(img_shape=(*size, 3))] * 2)
    gradient, = torch.autograd.grad(value, student)
    cases.append(Case(dict(boxes_by=boxes_by, tau=tau, foreground=0.4, background=0.3,
                           attention=0.2, relation=0.1),
                      dict(student=student, teacher=teacher, boxes=boxes, state=state,
                           input_size=[32, 40], image_sizes=torch.tensor([size] * 2)),
                      dict(value=value, gradient=gradient)))
write('fgd', 'https://github.com/yzd-v/FGD', clone, cases)
