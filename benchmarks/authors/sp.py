"""SP by RepDistiller, whose code the author of SP has verified, with gradients.

    git clone https://github.com/HobbitLong/RepDistiller clone
    python benchmarks/authors/sp.py clone
"""
import sys
from pathlib import Path

import torch
from importing import load
from recording import Case, write

if __name__ == '__main__':
    clone = sys.argv[1]
    theirs = load(Path(clone) / 'distiller_zoo/SP.py').Similarity()
    torch.manual_seed(0)
    found = []
    for shapes in (((5, 3, 4, 4), (5, 6, 2, 2)), ((4, 7), (4, 5))):
        student, teacher = (torch.randn(one, dtype=torch.float64) for one in shapes)
        student.requires_grad_()
        value, = theirs([student], [teacher])
        gradient, = torch.autograd.grad(value, student)
        found.append(Case({}, dict(student=student, teacher=teacher),
                          dict(value=value, gradient=gradient)))
    write('sp', 'https://github.com/HobbitLong/RepDistiller', clone, found)
