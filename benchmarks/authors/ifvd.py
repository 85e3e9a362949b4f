"""IFVD by the authors' code, with gradients; labels are reduced by it, too.

    git clone https://github.com/YukangWang/IFVD clone
    python benchmarks/authors/ifvd.py clone
"""
import sys
from pathlib import Path

import torch
from importing import load
from recording import Case, write

CLASSES, IGNORED = 4, 255

if __name__ == '__main__':
    clone = sys.argv[1]
    theirs = load(Path(clone) / 'utils/criterion.py').CriterionIFV(CLASSES)
    torch.manual_seed(0)
    found = []
    for size, dtype in (((8, 10), torch.float64), ((7, 11), torch.float64),
                        ((8, 10), torch.float32)):
        student = torch.randn(2, 3, 4, 5, dtype=dtype, requires_grad=True)
        teacher = torch.randn(2, 6, 4, 5, dtype=dtype)
        labels = torch.randint(-1, CLASSES, (2, *size))
        value = theirs([None, None, student], [None, None, teacher],
                       torch.where(labels < 0, IGNORED, labels))
        gradient, = torch.autograd.grad(value, student)
        found.append(Case(dict(num_classes=CLASSES),
                          dict(student=student, teacher=teacher, label_map=labels),
                          dict(value=value, gradient=gradient)))
    write('ifvd', 'https://github.com/YukangWang/IFVD', clone, found)
