"""Numbers of MGD: a clone of https://github.com/yzd-v/MGD is given on the command line."""
import sys
from pathlib import Path
from unittest.mock import patch

import torch
from importing import Registry, fill, load, some, stub
from recording import Case, write

clone = sys.argv[1]
stub('authors')
stub('authors.losses')
stub('authors.builder', DISTILL_LOSSES=Registry)
cases = []
for kind, path, cls, fraction in (
        ('positions', 'det/mmdet/distillation/losses/mgd.py', 'FeatureLoss', 0.65),
        ('channels', 'cls/mmcls/distillation/losses/mgd.py', 'MGDLoss', 0.5)):
    module = load(Path(clone) / path, f'authors.losses.{kind}')
    loss = getattr(module, cls)(4, 4, 'loss', alpha_mgd=0.02, lambda_mgd=fraction)
    state = fill(loss, seed=10)
    student, teacher = some(2, 4, 5, 3, seed=0).requires_grad_(), some(2, 4, 5, 3, seed=1)
    drawn = torch.rand((2, 1, 5, 3) if kind == 'positions' else (2, 4, 1, 1),
                       generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    with patch.object(torch, 'rand', return_value=drawn):
        value = loss(student, teacher)
    gradient, = torch.autograd.grad(value, student)
    cases.append(Case(dict(mask=kind, masked=fraction, loss_weight=0.02),
                      dict(student=student, teacher=teacher, drawn=drawn, state=state),
                      dict(value=value, gradient=gradient)))
write('mgd', 'https://github.com/yzd-v/MGD', clone, cases)
