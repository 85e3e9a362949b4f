"""Distances and angles of RKD by the authors' code, with gradients.

    git clone https://github.com/lenscloth/RKD clone
    python benchmarks/authors/rkd.py clone
"""
import sys
from pathlib import Path

import torch
from importing import load
from recording import Case, write

if __name__ == '__main__':
    clone = sys.argv[1]
    sys.path.insert(0, clone)
    theirs = load(Path(clone) / 'metric/loss.py')
    huber = torch.nn.functional.smooth_l1_loss
    # 'elementwise_mean' is the old name of 'mean'.
    theirs.F.smooth_l1_loss = lambda *sides, reduction: huber(*sides, reduction='mean')
    torch.manual_seed(0)
    found = []
    for images, offset in ((5, 0.), (3, 4.)):
        student = (torch.randn(images, 4, dtype=torch.float64) + offset).requires_grad_()
        teacher = torch.randn(images, 6, dtype=torch.float64) * 3
        outputs = {}
        for name, loss in (('distance', theirs.RkdDistance()), ('angle', theirs.RKdAngle())):
            value = loss(student, teacher)
            gradient, = torch.autograd.grad(value, student)
            outputs[name] = dict(value=value, gradient=gradient)
        found.append(Case({}, dict(student=student, teacher=teacher), outputs))
    write('rkd', 'https://github.com/lenscloth/RKD', clone, found)
